"""Lines on standard error beside a program that may have the screen to itself."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, TextIO

from .speech import clean

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_SHOWN_LATER = 20


class Screen:
    """Says lines at once, or when the program is done with the terminal."""

    def __init__(
        self,
        *,
        quiet: bool,
        stream: TextIO | None = None,
        log: SupportsWrite[str] | None = None,
    ):
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._log = log
        self._held: deque[str] = deque(maxlen=_SHOWN_LATER)
        self._left_out = 0
        self._lock = threading.Lock()

    def turn(self, line: str) -> None:
        """What can be left out."""
        if self._quiet:
            self._write_log(line)
        else:
            self.say(line)

    def say(self, line: str) -> None:
        self._write_log(line)
        with self._lock:
            self._left_out += len(self._held) == _SHOWN_LATER
            self._held.append(f"qwen-mitm: {clean(line)}")
            if not is_taken(self._stream):
                self._release()

    def release(self) -> None:
        """The program has ended."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        lines = list(self._held)
        if self._left_out:
            lines.insert(0, f"qwen-mitm: {self._left_out} lines before these are left out")
        # Who closes our standard error does not want to hear it; the command's status still counts.
        with contextlib.suppress(OSError, ValueError):
            self._stream.writelines(f"{line}\n" for line in lines)
            self._stream.flush()
        self._held.clear()
        self._left_out = 0

    def _write_log(self, line: str) -> None:
        if self._log:
            self._log.write(f"{line}\n")


def is_taken(stream: TextIO) -> bool:
    """Whether a program draws on this terminal: it then reads each key as it is typed."""
    if not stream.isatty():
        return False
    if sys.platform == "win32":
        return True
    import termios

    try:
        _, _, _, local, *_ = termios.tcgetattr(stream.fileno())
    except (termios.error, OSError):
        return False
    return not local & termios.ICANON
