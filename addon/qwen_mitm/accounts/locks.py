"""Locks between processes: the kernel's, and the folder that the OpenCode plugin takes for one.

A kernel lock ends with its process. The plugin's (``proper-lockfile``, qwen.md §1.5) is a folder
beside the file that exists while somebody writes; it is stale when its time is older than ten
seconds. Ours is marked in the digits of that time that no such program sets, so that a process
that was killed costs the next one of ours no wait.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from .files import AccountFileError

#: How long a change waits for other processes of ours, which hold the lock for milliseconds.
KERNEL_TIMEOUT_S: Final = 30.0
STALE_AFTER_S: Final = 10.0
#: A little more than it takes for the lock of a dead process to become stale.
FOLDER_TIMEOUT_S: Final = 15.0

_POLL_S: Final = 0.01
_MARK_NS: Final = 271_828
_MS: Final = 1_000_000


class Intruded(Exception):
    """Somebody else took the plugin's lock while we held it."""


@contextmanager
def kernel_lock(path: Path, *, timeout_s: float = KERNEL_TIMEOUT_S) -> Iterator[None]:
    """Hold the kernel's lock on ``path``, which stays behind, empty.

    It may be left in another thread than it was entered in. Not reentrant.

    Raises:
        AccountFileError: somebody holds it for longer, or its file cannot be made.
    """
    # Removing the file would let two processes lock two files of the same name.
    lock = FileLock(path, mode=0o600, thread_local=False)
    try:
        lock.acquire(timeout=timeout_s, poll_interval=_POLL_S)
    except Timeout:
        raise AccountFileError(
            f"Another process holds {path} for more than {timeout_s:.0f} seconds."
        ) from None
    except OSError as error:
        raise AccountFileError(f"{path} cannot be locked: {error.strerror}.") from None
    try:
        yield
    finally:
        lock.release()


class LockFolder:
    """The plugin's lock on a file. Only for the holder of the kernel's lock on the same file."""

    def __init__(self, file: Path, *, timeout_s: float = FOLDER_TIMEOUT_S) -> None:
        self.path = file.with_name(f"{file.name}.lock")
        self._timeout_s = timeout_s
        self._held: tuple[int, int] | None = None

    @contextmanager
    def held(self) -> Iterator[LockFolder]:
        """Hold it.

        Raises:
            AccountFileError: somebody keeps it, or it cannot be made.
        """
        deadline = time.monotonic() + self._timeout_s
        while not self._make():
            self._remove_if_dead()
            if time.monotonic() > deadline:
                raise AccountFileError(
                    f"Another program holds {self.path}. If no OpenCode runs, remove that folder."
                )
            time.sleep(_POLL_S)
        try:
            self._touch()
            yield self
        finally:
            if self._is_held():
                with suppress(OSError):
                    os.rmdir(self.path)

    def confirm(self) -> None:
        """Keep it fresh.

        Raises:
            Intruded: we were so slow that another program took it.
        """
        if not self._is_held():
            raise Intruded
        self._touch()

    def _make(self) -> bool:
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise AccountFileError(f"{self.path} cannot be made: {error.strerror}.") from None
        return True

    def _touch(self) -> None:
        now = time.time_ns() // _MS * _MS + _MARK_NS
        try:
            os.utime(self.path, ns=(now, now))
        except FileNotFoundError:
            raise Intruded from None
        self._held = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _is_held(self) -> bool:
        return self._held is not None and self._identity() == self._held

    def _remove_if_dead(self) -> None:
        found = self._identity()
        if found is None:
            return
        # With our mark it is from a process that was killed: we hold the kernel's lock now.
        is_ours = found[1] % _MS == _MARK_NS
        if is_ours or found[1] < time.time_ns() - STALE_AFTER_S * 1e9:
            with suppress(OSError):
                os.rmdir(self.path)
