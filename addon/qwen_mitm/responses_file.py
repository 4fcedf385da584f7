"""The SQLite file of stored responses: where it is, opening it, and replacing a damaged one."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock

from qwen_mitm.responses_rows import SCHEMA, VERSION

logger = logging.getLogger(__name__)

FILE_NAME: Final = "qwen-mitm-responses.sqlite"
#: Writers of ours hold the file for milliseconds; all streams wait for this when another does.
BUSY_TIMEOUT_S: Final = 0.5
#: Only if nobody tidies up does a writer do so itself: it costs a sync to disk.
WAL_PAGES: Final = 16_384

_LOCK_TIMEOUT_S: Final = 2.0
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def responses_path(env: Mapping[str, str], chosen: str = "") -> Path:
    """``chosen``, else the file in our own folder for state: conversations are no configuration."""
    if chosen:
        return Path(chosen).expanduser()
    return state_home(env) / FILE_NAME


def state_home(env: Mapping[str, str]) -> Path:
    """Where the platform keeps what programs remember."""
    if os.name == "nt":
        root = Path(env.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Application Support"
    else:
        root = Path(env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return root / "qwen-mitm"


class ResponsesFile:
    """The file at ``path``; others may have it open, remove it or replace it.

    Methods raise ``OSError`` and ``sqlite3.Error``. Replacing happens in one process at a time, so
    that none takes another's new file for the damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> tuple[sqlite3.Connection, int]:
        """A connection for any thread, and the inode that it has open."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._one_process():
            self._create()
            connection = sqlite3.connect(
                self.path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare(connection)
                return connection, self.inode() or 0
            except BaseException:
                connection.close()
                raise

    def inode(self) -> int | None:
        """Of the file that is there now."""
        with suppress(FileNotFoundError):
            return os.stat(self.path).st_ino
        return None

    def set_aside(self, inode: int) -> None:
        """Move the damaged file away, unless another process has already replaced it."""
        with self._one_process():
            if self.inode() != inode:
                return
            kept = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            for suffix in ("-shm", "-wal", ""):
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{kept}{suffix}")
        logger.warning(
            "qwen-mitm: the file of stored responses is damaged. It was moved to %s and a new one "
            "begun; previous responses are lost.",
            kept,
        )

    def _create(self) -> None:
        # SQLite gives its other files the mode of this one. Opening an existing file here would
        # drop the locks of other connections in this process when it is closed.
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            os.close(os.open(self.path, flags, 0o600))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing; after a power failure the last responses may be gone.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(SCHEMA)
        elif version != VERSION:
            raise UnknownVersion(f"{self.path} is of version {version}")

    @contextmanager
    def _one_process(self) -> Iterator[None]:
        lock = FileLock(f"{self.path}.lock", mode=0o600, timeout=_LOCK_TIMEOUT_S)
        with lock:
            yield


class UnknownVersion(sqlite3.DatabaseError):
    """A later program wrote the file."""


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file has to be replaced."""
    if isinstance(error, UnknownVersion):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


class OpenFile:
    """One connection, opened when it is needed and again when the file was replaced."""

    def __init__(self, file: ResponsesFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._complaint = ""

    def use[T](self, act: Callable[[sqlite3.Connection], T]) -> T | None:
        """What ``act`` returns; None, and a warning, if the file cannot be used."""
        with self._lock:
            try:
                return self._use(act)
            # ValueError: what was read is no JSON any more.
            except (sqlite3.Error, OSError, ValueError) as error:
                self._complain(str(error))
                return None

    def close(self) -> None:
        with self._lock:
            self._close()

    def _use[T](self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return act(self._current())
        except sqlite3.Error as error:
            if not is_damaged(error):
                raise
        damaged = self._inode or self._file.inode() or 0
        self._close()
        self._file.set_aside(damaged)
        return act(self._current())

    def _current(self) -> sqlite3.Connection:
        if self._connection is None or self._file.inode() != self._inode:
            self._close()
            self._connection, self._inode = self._file.connect()
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._inode = 0

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            logger.warning(
                "qwen-mitm: responses cannot be stored or found in %s: %s",
                self._file.path,
                complaint,
            )
