"""Stored responses in one SQLite file, bounded by age and size, shared by several processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from qwen_mitm.responses_file import OpenFile, ResponsesFile
from qwen_mitm.responses_rows import (
    ResponseRows,
    live_bytes,
    read_item,
    read_items,
    read_response,
    remove,
    remove_older,
    remove_oldest,
    transaction,
)
from qwen_mitm.stored_response import StoredResponse, with_id
from qwen_mitm.wire.response_object import JsonObject

MAX_AGE_S: Final = 30 * 24 * 3600
MAX_BYTES: Final = 256 * 2**20

#: Tidying takes a lock that writers wait for: not too often, in short steps, with breaks between.
_BREATH_S: Final = 0.005
_TIDY_EVERY_BYTES: Final = 4 * 2**20
_TIDY_EVERY_SAVES: Final = 256
_TIDY_EVERY_S: Final = 3600
#: Room is made for more than one response at a time.
_MAKE_ROOM: Final = 0.9


class ResponsesStore:
    """A :class:`~qwen_mitm.stored_response.ResponseStore` in a file, for any thread; it blocks.

    Old responses are removed in a thread of its own, which ``close`` ends.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_age_s: int = MAX_AGE_S,
        max_bytes: int = MAX_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._file = ResponsesFile(path)
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._now = now
        self._open = OpenFile(self._file)
        self._janitor: ThreadPoolExecutor | None = None
        self._saved_bytes = 0
        self._saves = 0
        self._tidied_at: float | None = None

    def save(self, stored: StoredResponse) -> None:
        if stored.response.get("store") is False:
            return
        rows = ResponseRows(stored)

        def save(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                written = rows.write(connection, int(self._now()))
            self._saved_bytes += written
            self._saves += 1
            self._tidy_if_due()

        self._open.use(save)

    def get(self, response_id: str) -> JsonObject | None:
        since = self._oldest()
        return self._open.use(lambda opened: read_response(opened, response_id, since))

    def delete(self, response_id: str) -> bool:
        def delete(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                return remove(connection, response_id)

        return self._open.use(delete) or False

    def item(self, item_id: str) -> bytes | None:
        return self._open.use(lambda opened: read_item(opened, item_id))

    def context(self, response_id: str) -> Sequence[bytes] | None:
        def items(connection: sqlite3.Connection) -> list[bytes] | None:
            rows = read_items(connection, response_id, self._oldest(), "head")
            return None if rows is None else [item for _, item in rows]

        return self._open.use(items)

    def input_items(self, response_id: str) -> list[JsonObject] | None:
        def items(connection: sqlite3.Connection) -> list[JsonObject] | None:
            rows = read_items(connection, response_id, self._oldest(), "input")
            return None if rows is None else [with_id(item, key) for key, item in rows]

        return self._open.use(items)

    def tidy(self) -> None:
        """Remove what is too old or too much, oldest first. Others can use the file meanwhile."""
        opened = OpenFile(self._file)
        try:
            opened.use(self._tidy)
        finally:
            opened.close()

    def close(self) -> None:
        """Ends the thread and closes the file; a later call opens it again."""
        if self._janitor is not None:
            self._janitor.shutdown(cancel_futures=True)
            self._janitor = None
        self._open.close()

    def _oldest(self) -> int:
        return int(self._now()) - self._max_age_s

    def _tidy_if_due(self) -> None:
        now = self._now()
        if (
            self._tidied_at is not None
            and self._saved_bytes < _TIDY_EVERY_BYTES
            and self._saves < _TIDY_EVERY_SAVES
            and now - self._tidied_at < _TIDY_EVERY_S
        ):
            return
        self._tidied_at = now
        self._saved_bytes = self._saves = 0
        if self._janitor is None:
            self._janitor = ThreadPoolExecutor(1, "qwen-mitm-responses")
        self._janitor.submit(self.tidy)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        while remove_older(connection, self._oldest()):
            time.sleep(_BREATH_S)
        if live_bytes(connection) > self._max_bytes:
            while remove_oldest(connection, int(self._max_bytes * _MAKE_ROOM)):
                time.sleep(_BREATH_S)
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
