from __future__ import annotations

import logging
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from qwen_mitm.observing.days import MOST_ROWS, WRITE_EVERY_S, Days
from qwen_mitm.observing.document import DayTotal
from tests.observing.turns import a_turn

FRIDAY = date(2026, 11, 20)
MONDAY = date(2026, 11, 23)


class Clock:
    """The day, and the seconds of a clock."""

    def __init__(self) -> None:
        self.day = FRIDAY
        self.seconds = 0.0

    def today(self) -> date:
        return self.day

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def days(tmp_path: Path, clock: Clock) -> Callable[..., Days]:
    def opened(keep: int = 90, name: str = "state/days.sqlite") -> Days:
        return Days(tmp_path / name, keep, clock.today, clock.now)

    return opened


def settled(days: Days) -> list[DayTotal]:
    """The sums, once nothing is being written."""
    days.totals()
    deadline = time.monotonic() + 5
    while days.is_writing:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return days.totals()


def test_turns_are_added_by_day_and_account(days: Callable[..., Days], clock: Clock) -> None:
    kept = days()
    kept.turn_ended(a_turn("plan", input=100, cached=40, output=10, reasoning=4))
    kept.turn_ended(a_turn("plan", input=50, output=5, outcome="failed"))
    kept.turn_ended(a_turn("work", input=7))
    clock.day = MONDAY
    kept.turn_ended(a_turn("plan", input=1))
    totals = kept.totals()
    kept.close()
    assert [(t.date, t.account, t.turns, t.failed, t.input) for t in totals] == [
        ("2026-11-20", "plan", 2, 1, 150),
        ("2026-11-20", "work", 1, 0, 7),
        ("2026-11-23", "plan", 1, 0, 1),
    ]
    assert (totals[0].cached, totals[0].output, totals[0].reasoning) == (40, 15, 4)


def test_two_proxies_add_to_the_same_sums_and_the_next_one_finds_them(
    days: Callable[..., Days], clock: Clock
) -> None:
    one, other = days(), days()
    one.turn_ended(a_turn("plan", input=100))
    other.turn_ended(a_turn("plan", input=20))
    one.turn_ended(a_turn("plan", input=3))
    assert settled(one)[0].input >= 103
    clock.seconds += WRITE_EVERY_S
    one.close()
    other.close()

    third = days()
    (total,) = settled(third)
    assert (total.turns, total.input) == (3, 123)
    third.close()


def test_nothing_counts_twice_while_it_is_written(days: Callable[..., Days], clock: Clock) -> None:
    kept = days()
    for number in range(1, 40):
        clock.seconds += WRITE_EVERY_S
        kept.turn_ended(a_turn("plan", input=1))
        assert kept.totals()[0].input == number
    kept.close()


def test_costs_are_added_in_one_currency_and_tokens_in_any(days: Callable[..., Days]) -> None:
    kept = days()
    kept.turn_ended(a_turn("plan", input=10, cost=0.25))
    kept.turn_ended(a_turn("plan", input=10, cost=0.5))
    kept.turn_ended(a_turn("plan", input=10, cost=3.0, currency="CNY"))
    kept.turn_ended(a_turn("plan", input=10))
    kept.close()

    later = days()
    settled(later)
    ((dollars,), (yuan,)) = later.totals("USD"), later.totals("CNY")
    later.close()
    assert (dollars.turns, dollars.input, dollars.cost) == (4, 40, 0.75)
    assert (yuan.turns, yuan.input, yuan.cost) == (4, 40, 3.0)


def test_old_days_are_dropped(days: Callable[..., Days], clock: Clock) -> None:
    kept = days(keep=3)
    kept.turn_ended(a_turn("plan"))
    kept.close()
    clock.day = MONDAY

    later = days(keep=3)
    assert settled(later) == []
    later.close()


def test_the_file_is_bounded_whatever_accounts_there_were(
    days: Callable[..., Days], tmp_path: Path
) -> None:
    kept = days(name="days.sqlite")
    settled(kept)
    kept.close()
    rows = [
        (f"2026-11-{day}", f"account-{i}", "", 1, 0, 0, 0, 0, 0, 0)
        for day in range(10, 20)
        for i in range(MOST_ROWS // 4)
    ]
    with closing(sqlite3.connect(tmp_path / "days.sqlite")) as connection, connection:
        connection.executemany("INSERT INTO account_days VALUES (?,?,?,?,?,?,?,?,?,?)", rows)

    later = days(name="days.sqlite")
    later.turn_ended(a_turn("plan"))
    totals = settled(later)
    later.close()
    assert len(totals) <= MOST_ROWS * 1.25
    assert totals[-1].date == "2026-11-20"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_file_is_for_its_owner_alone(days: Callable[..., Days], tmp_path: Path) -> None:
    kept = days()
    kept.turn_ended(a_turn("plan"))
    kept.close()
    assert (tmp_path / "state" / "days.sqlite").stat().st_mode & 0o777 == 0o600


def test_none_are_kept_on_disk_when_none_are_wanted(
    days: Callable[..., Days], tmp_path: Path
) -> None:
    kept = days(keep=0)
    kept.turn_ended(a_turn("plan", input=9))
    assert kept.totals()[0].input == 9
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_used_costs_one_warning_and_no_figure(
    days: Callable[..., Days], clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "days.sqlite").write_bytes(b"not a database " * 100)
    kept = days()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.seconds += WRITE_EVERY_S
            kept.turn_ended(a_turn("plan", input=10))
            settled(kept)
    assert kept.totals()[0].input == 30
    assert len(caplog.records) == 1
    kept.close()
