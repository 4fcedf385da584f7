from qwen_mitm.observing.recent import MOST_FAILURES, MOST_MOMENTS, Recent
from qwen_mitm.reports import Fault, RequestRefused
from tests.observing.turns import a_turn


def test_streamed_answers_are_moments_and_failures_are_told_with_what_to_do() -> None:
    recent = Recent()
    recent.turn_ended(a_turn("plan", "work", statuses=(429,), output=126))
    fault = Fault(message="hour allocated quota exceeded", status=429)
    recent.turn_ended(a_turn("plan", outcome="refused", fault=fault, statuses=(429,)))

    (moment,) = recent.moments
    assert (moment.account, moment.first_event_s, moment.tokens_per_second) == ("work", 0.4, 63.0)
    (failure,) = recent.failures
    assert failure.kind == "quota"
    assert failure.message == "hour allocated quota exceeded"
    assert "qwen-mitm login" in failure.to_do
    assert failure.attempts == ("plan: 429",)


def test_a_request_that_did_not_become_a_turn_is_a_failure_too() -> None:
    recent = Recent()
    recent.refused(
        RequestRefused(line="", ended_at=5.0, fault=Fault(message="no 'input'", status=400))
    )
    assert [(f.kind, f.message, f.at) for f in recent.failures] == [
        ("request_refused", "no 'input'", 5.0)
    ]


def test_the_last_failure_comes_first_and_both_lists_are_bounded() -> None:
    recent = Recent()
    for number in range(1000):
        recent.turn_ended(a_turn("plan"))
        fault = Fault(message=f"{number} " + "x" * 5000, status=500)
        recent.turn_ended(a_turn("plan", outcome="failed", fault=fault))
    assert len(recent.moments) == MOST_MOMENTS
    assert len(recent.failures) == MOST_FAILURES
    assert recent.failures[0].message.startswith("999 ")
    assert len(recent.failures[0].message) <= 1000
