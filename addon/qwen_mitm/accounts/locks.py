"""Locks between processes: the kernel's, and the folder that the OpenCode plugin takes for one.

A kernel lock ends with its process. The plugin's (``proper-lockfile``, qwen.md §1.5) is a folder
beside the file that exists while somebody writes; it is stale when its time is older than ten
seconds. Ours is told by its mode, so that a process that was killed costs the next one of ours no
wait.
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
# Given by mkdir itself, and no other program's: theirs is 0777 less the umask.
_OUR_MODE: Final = 0o500


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
            os.mkdir(self.path, _OUR_MODE)
        except FileExistsError:
            return False
        except OSError as error:
            raise AccountFileError(f"{self.path} cannot be made: {error.strerror}.") from None
        return True

    def _touch(self) -> None:
        try:
            os.utime(self.path)
            self._held = _identity(os.stat(self.path))
        except FileNotFoundError:
            raise Intruded from None

    def _is_held(self) -> bool:
        with suppress(FileNotFoundError):
            return _identity(os.stat(self.path)) == self._held
        return False

    def _remove_if_dead(self) -> None:
        with suppress(OSError):
            status = os.stat(self.path)
            # Of ours, only one that was killed: we hold the kernel's lock now.
            is_ours = status.st_mode & 0o777 == _OUR_MODE
            if is_ours or status.st_mtime < time.time() - STALE_AFTER_S:
                os.rmdir(self.path)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns
