"""What each account did on each day: a small SQLite file that all proxies of this user add to.

The account file has the present day alone, and belongs to other programs too. Here nothing is of
value but the sums, so a file that cannot be used costs a warning and no more.
"""

from __future__ import annotations

import logging
import operator
import os
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from qwen_mitm.daemon_pool import DaemonPool
from qwen_mitm.observing.document import DayTotal
from qwen_mitm.reports import TurnEnded

logger = logging.getLogger(__name__)

FILE_NAME: Final = "qwen-mitm-days.sqlite"
#: A day of an account takes about 60 bytes; beyond so many the oldest are dropped.
MOST_ROWS: Final = 20_000
WRITE_EVERY_S: Final = 10.0

_COUNTS: Final = ("turns", "failed", "input", "cached", "output", "reasoning", "cost")
_BUSY_TIMEOUT_S: Final = 2.0
_SCHEMA: Final = f"""
    CREATE TABLE IF NOT EXISTS account_days (
        date TEXT NOT NULL,
        account TEXT NOT NULL,
        currency TEXT NOT NULL,
        {", ".join(f"{name} NUMERIC NOT NULL" for name in _COUNTS)},
        PRIMARY KEY (date, account, currency)
    ) WITHOUT ROWID
"""
_ADD: Final = f"""
    INSERT INTO account_days VALUES ({", ".join("?" * (3 + len(_COUNTS)))})
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTS)}
"""
_DROP: Final = """
    DELETE FROM account_days WHERE date < ? OR date <
    (SELECT date FROM account_days ORDER BY date DESC, account LIMIT 1 OFFSET ?)
"""

type _Key = tuple[str, str, str]
"""The date, the account and the currency; none where there is no price."""
type _Counts = tuple[float, ...]
type _Sums = Mapping[_Key, _Counts]


class Days:
    """Sums by day and account. Used on one event loop; the disk is touched in a thread.

    ``keep`` days are kept on disk; 0: none, and the sums are of this process. ``today`` is in UTC.
    """

    def __init__(
        self, path: Path, keep: int, today: Callable[[], date], clock: Callable[[], float]
    ) -> None:
        self.keep = keep
        self._path = path
        self._today = today
        self._clock = clock
        self._stored: _Sums = {}
        self._new: dict[_Key, _Counts] = {}
        self._writing: dict[_Key, _Counts] = {}
        self._write: Future[_Sums] | None = None
        self._written_at = float("-inf")
        self._warned = False
        self._writer = DaemonPool(1, "qwen-days")

    def turn_ended(self, turn: TurnEnded) -> None:
        account = turn.tries[-1].account if turn.tries else ""
        tokens = turn.tokens
        counts = (
            1,
            0 if turn.succeeded else 1,
            tokens.input,
            tokens.cached,
            tokens.output,
            tokens.reasoning,
            turn.cost or 0.0,
        )
        key = (self._today().isoformat(), account, turn.currency if turn.cost else "")
        self._new = dict(_added(self._new, {key: counts}))
        self._write_when_due()

    def totals(self, currency: str = "") -> list[DayTotal]:
        """Of all days that are kept, the oldest first; what other proxies did is added soon.

        What was paid in another ``currency`` is left out of the cost.
        """
        self._write_when_due()
        sums = _added(_added(self._stored, self._writing), self._new)
        found: dict[tuple[str, str], _Counts] = {}
        for (day, account, paid_in), counts in sums.items():
            shown = counts if paid_in == currency else (*counts[:-1], 0.0)
            found[day, account] = _plus(found.get((day, account)), shown)
        return [
            DayTotal.model_validate(
                {"date": day, "account": account, **dict(zip(_COUNTS, counts, strict=True))}
            )
            for (day, account), counts in sorted(found.items())
        ]

    @property
    def is_writing(self) -> bool:
        return self._write is not None and not self._write.done()

    def finish(self) -> None:
        """Begin to write what is left. ``is_writing`` says whether that is done."""
        self._settle()
        if self._new:
            # Behind a write that is still under way, if there is one.
            self._begin()
        self._writer.shutdown(wait=False)

    def close(self) -> None:
        """Write what is left; blocks for as long as that takes."""
        self.finish()
        self._writer.shutdown(wait=True)

    def _write_when_due(self) -> None:
        self._settle()
        due = self._clock() - self._written_at >= WRITE_EVERY_S
        if self.keep and due and self._write is None:
            self._begin()

    def _begin(self) -> None:
        if not self.keep:
            return
        self._written_at = self._clock()
        self._writing, self._new = self._new, {}
        oldest = (self._today() - timedelta(days=self.keep - 1)).isoformat()
        self._write = self._writer.submit(_update, self._path, self._writing, oldest)

    def _settle(self) -> None:
        """Take over what the last write found, or take back what it could not write."""
        if self._write is None or not self._write.done():
            return
        done, self._write = self._write, None
        try:
            self._stored = done.result()
        except (OSError, sqlite3.Error) as error:
            self._new = dict(_added(self._writing, self._new))
            if not self._warned:
                self._warned = True
                logger.warning("qwen-mitm: the sums per day cannot be kept: %s", error)
        self._writing = {}


def _added(one: _Sums, other: _Sums) -> _Sums:
    found = dict(one)
    for key, counts in other.items():
        found[key] = _plus(found.get(key), counts)
    return found


def _plus(before: _Counts | None, counts: _Counts) -> _Counts:
    return counts if before is None else tuple(map(operator.add, before, counts))


def _update(path: Path, new: _Sums, oldest: str) -> _Sums:
    """Add to the file, drop what is too old, and read all of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite would make it readable for others.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection, connection:
        connection.execute(_SCHEMA)
        connection.executemany(_ADD, [(*key, *counts) for key, counts in new.items()])
        connection.execute(_DROP, (oldest, MOST_ROWS))
        rows = connection.execute("SELECT * FROM account_days").fetchall()
    return {(day, account, currency): tuple(counts) for day, account, currency, *counts in rows}
