import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.inspection.dashboard import (
    FAILED,
    FAILED_OVER,
    MARKS,
    WARNED,
    compact,
    line_of,
    line_so_far,
    mark_of,
)
from qwen_mitm.inspection.record import Record, Tokens, Try, record_of, refused
from tests.inspection.turns import Clock, a_turn, a_whole_turn, send

DONE = Record(
    model="qwen3-coder-plus",
    streams=True,
    status="completed",
    attempts=[Try(account="home"), Try(account="work")],
    tokens=Tokens(input=41_200, cached=38_000, output=812),
    first_token_s=0.42,
    ended_s=13.309,
)


def test_a_turn_is_one_line() -> None:
    assert line_of(DONE) == (
        "qwen3-coder-plus · 41.2k in (38.0k cached) → 812 out · first token 0.42 s · 63 tok/s · "
        "account work · 1 failover"
    )


def test_a_cost_is_in_the_line_and_estimates_are_marked() -> None:
    tokens = Tokens(input=10, output=5, estimated=True)
    record = DONE.model_copy(update={"cost": "0.0113 USD", "tokens": tokens})
    line = line_of(record)
    assert "· ~10 in → ~5 out ·" in line
    assert "· 0.0113 USD ·" in line


def test_what_went_wrong_is_in_the_line_and_not_all_of_it() -> None:
    failed = DONE.model_copy(update={"status": "failed", "error": {"message": "x " * 200}})
    line = line_of(failed)
    assert line.startswith("qwen3-coder-plus · failed · ")
    assert line.endswith("…")
    assert len(line) < 260
    assert "\n" not in line_of(refused(InvalidRequest("two\nlines")))


def test_the_reason_of_an_incomplete_answer_is_in_the_line() -> None:
    record = DONE.model_copy(
        update={"status": "incomplete", "incomplete": {"reason": "max_output_tokens"}}
    )
    assert line_of(record).endswith("· max_output_tokens")
    assert mark_of(record) == FAILED_OVER
    assert mark_of(record.model_copy(update={"attempts": []})) == WARNED


def test_a_turn_that_runs_says_how_far_it_is() -> None:
    clock = Clock()
    turn = a_turn(clock)
    send(turn, "work")
    clock.now += 3
    assert line_so_far(turn) == "qwen3-coder-plus · waiting 3 s · account work"
    turn, _ = a_whole_turn()
    assert line_so_far(turn) == (
        "qwen3-coder-plus · 7 pieces in 6 s · first token 0.42 s · account home · 1 failover"
    )


def test_marks_tell_failure_failover_and_losses() -> None:
    plain = DONE.model_copy(update={"attempts": [Try(account="work")]})
    assert mark_of(plain) == ""
    assert mark_of(plain.model_copy(update={"warnings": "dropped_tool; x"})) == WARNED
    assert mark_of(DONE) == FAILED_OVER
    assert mark_of(DONE.model_copy(update={"failure": "refused with 429"})) == FAILED
    assert mark_of(refused(InvalidRequest("no"))) == FAILED
    assert {WARNED, FAILED, FAILED_OVER} == MARKS


def test_a_whole_turn_has_a_rate() -> None:
    turn, _ = a_whole_turn()
    assert "135 tok/s" in line_of(record_of(turn))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (99_949, "99.9k"),
        (99_950, "100k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
    ],
)
def test_numbers_are_short(number: int, words: str) -> None:
    assert compact(number) == words
