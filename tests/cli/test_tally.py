from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

from qwen_mitm.cli.tally import Tally
from qwen_mitm.reports import Tokens, Try, TurnEnded


def a_turn(
    *accounts: str,
    outcome: str = "completed",
    tokens: Tokens | None = None,
    first_event_s: float | None = 0.2,
) -> TurnEnded:
    return TurnEnded(
        line="",
        model="qwen3-coder-plus",
        outcome=outcome,
        tries=tuple(Try(account=name, status=200, failure=None) for name in accounts),
        tokens=tokens or Tokens(input=1000, cached=250, output=10),
        first_event_s=first_event_s,
    )


def summary(turns: Iterable[TurnEnded], refused: int) -> list[str]:
    tally = Tally(refused=refused)
    for turn in turns:
        tally.add(turn)
    return tally.lines()


def test_tokens_are_added_and_the_first_event_is_the_median() -> None:
    turns = [a_turn("plan", first_event_s=wait) for wait in (0.1, 0.3, 9.0)]

    assert summary(turns, 0) == [
        "3 turns · 3,000 in (25% cached), 30 out · first event 0.30 s (median) · account plan"
    ]


def test_failovers_and_failures_are_counted_and_accounts_told_apart() -> None:
    turns = [
        a_turn("plan", "work"),
        a_turn("work"),
        a_turn("plan", outcome="refused", tokens=Tokens(), first_event_s=None),
    ]

    total, *accounts = summary(turns, 1)

    assert total.startswith("4 turns · 2,000 in")
    assert total.endswith(" · 1 failover · 2 failed")
    assert accounts == [
        "  plan: 1 turn · left for another account 1 time",
        "  work: 2 turns · 2,000 in (25% cached), 20 out",
    ]


def test_estimates_are_marked_and_cut_answers_are_no_failures() -> None:
    guess = Tokens(input=100, output=5, estimated=True)

    (line,) = summary([a_turn("plan", outcome="incomplete", tokens=guess)], 0)

    assert "~100 in (0% cached), ~5 out" in line
    assert "failed" not in line


def test_a_run_without_a_turn_says_so() -> None:
    assert summary([], 0) == ["no turn"]


def test_a_long_run_keeps_next_to_nothing_of_its_turns() -> None:
    tally = Tally()
    turn = a_turn("plan", "work")
    tally.add(turn)

    tracemalloc.start()
    try:
        for _ in range(10_000):
            tally.add(turn.model_copy())
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept / 10_000 < 16
