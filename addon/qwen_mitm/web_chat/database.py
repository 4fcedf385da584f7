"""The SQLite file of the web chat: credentials and conversations, for its owner alone.

Every use opens it anew and is one transaction, so that processes and threads share it as they like.
It holds cookies: nothing of a row is in an error.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from qwen_mitm.responses_file import state_home

from .errors import WebChatError

FILE_NAME: Final = "qwen-mitm-web-chat.sqlite"
VERSION: Final = 1
#: Those who write hold the file for milliseconds, and all streams wait for this.
BUSY_TIMEOUT_S: Final = 2.0

SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS qwen_credentials (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL,
    cookies TEXT NOT NULL,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS qwen_credentials_expires_at ON qwen_credentials (expires_at);
CREATE TABLE IF NOT EXISTS environment (
    digest TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    chat_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    claimed_until INTEGER NOT NULL DEFAULT 0,
    message_count INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS sessions_expires_at ON sessions (expires_at);
CREATE TABLE IF NOT EXISTS turns (
    account TEXT NOT NULL,
    prefix TEXT NOT NULL,
    chat_id TEXT NOT NULL REFERENCES sessions (chat_id) ON DELETE CASCADE,
    parent_id TEXT NOT NULL,
    PRIMARY KEY (account, prefix)
);
CREATE INDEX IF NOT EXISTS turns_chat_id ON turns (chat_id);
PRAGMA user_version = {VERSION};
COMMIT;
"""
"""``environment``: what was last taken from there. ``sessions``: chats. ``turns``: what each can be
gone on from. Times are seconds since 1970."""


class DatabaseFault(WebChatError):
    """The file cannot be used. 400, because no repetition heals it."""

    status = 400
    type = "invalid_request_error"
    default_code = "no_usable_account"


def database_path(env: Mapping[str, str]) -> Path:
    return state_home(env) / FILE_NAME


class Database:
    """The file at ``path``; it is made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: sqlite3.Connection | None = None

    def keep_open(self) -> None:
        """Until ``close``: who closes the file last waits for the disk, which takes long.

        Raises:
            DatabaseFault: as ``transaction``.
        """
        if self._kept is None:
            with self._faults():
                self._kept = self._connect()
                # SQLite has the file open only when something was read.
                self._kept.execute("SELECT 1 FROM sessions").fetchone()

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @contextmanager
    def transaction(self, *, lasting: bool = False) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, and alone among all processes.

        ``lasting``: nothing of what it replaces is left on the disk, nor lost with its power.

        Raises:
            DatabaseFault: the file cannot be opened, read or written.
        """
        with self._faults(), closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # The error that is on its way says more than one of the rollback.
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            if lasting:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DatabaseFault(
                f"The file of the web chat, {self.path}, cannot be used: {error}. If it is "
                "damaged, delete it and run: qwen-mitm login --provider web-chat"
            ) from None

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its other files the mode of this one.
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            # A copy from elsewhere may be open to others.
            if os.name != "nt" and self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # What is deleted is overwritten: old cookies may still be good.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"a newer program wrote it (version {version})")
