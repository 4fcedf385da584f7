import pytest

from qwen_mitm.exchange import Send
from qwen_mitm.journey import Journey
from qwen_mitm.skew import seconds_ahead, skew_of

DATE = "Fri, 20 Nov 2026 12:00:00 GMT"
AT = 1_795_176_000.0


def a_journey(date: str | None) -> Journey:
    journey = Journey(clock=lambda: 100.0, heartbeat_s=15, timeout_s=300, recording_limit=0)
    journey.sent(Send("work", "https", "qwen.test", 443, "/v1/models", (), b""))
    journey.note_head(200, ((b"Date", date.encode()),) if date else ())
    return journey


@pytest.mark.parametrize(
    ("received_at", "seconds"), [(AT, -0.5), (AT + 3600, 3599.5), (AT - 60, -60.5)]
)
def test_a_clock_is_compared_with_the_date(received_at: float, seconds: float) -> None:
    assert seconds_ahead(DATE, received_at) == seconds


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 20 Nov 99999 12:00:00 GMT"])
def test_no_date_tells_nothing(date: str | None) -> None:
    assert seconds_ahead(date, AT) is None


def test_an_answer_shows_the_skew_of_the_moment_when_it_came() -> None:
    skew = skew_of(a_journey(DATE), clock=130.0, now=AT + 30 + 7.5)
    assert skew is not None
    assert (skew.seconds, skew.host) == (7.0, "qwen.test")


def test_answers_without_a_date_and_journeys_without_an_answer_show_none() -> None:
    assert skew_of(a_journey(None), clock=130.0, now=AT) is None
    unanswered = Journey(clock=lambda: 0.0, heartbeat_s=15, timeout_s=300, recording_limit=0)
    assert skew_of(unanswered, clock=1.0, now=AT) is None
