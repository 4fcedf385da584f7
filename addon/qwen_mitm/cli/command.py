"""The person's command: it has the terminal, and the signals that are meant for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from .speech import Complaint

NOT_FOUND = 127
NOT_EXECUTABLE = 126
#: The kernel sends these to all of the foreground of a terminal.
_OF_THE_TERMINAL = ("SIGINT", "SIGQUIT", "SIGWINCH")
_SENT_TO_US = ("SIGTERM", "SIGHUP")


class CommandNotStarted(Complaint):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run_command(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Run it to its end in the terminal that we have; its exit status, 128+n after signal n.

    Raises:
        CommandNotStarted: there is no such program, or it cannot be run.
    """
    with _passing_on() as passing:
        try:
            process = subprocess.Popen(_resolved(words, env), env=dict(env))
        except FileNotFoundError:
            raise CommandNotStarted(f"There is no command {words[0]!r}.", NOT_FOUND) from None
        except OSError as error:
            raise CommandNotStarted(
                f"{words[0]!r} cannot be run: {error.strerror}.", NOT_EXECUTABLE
            ) from None
        passing.to(process)
        status = process.wait()
    return status if status >= 0 else 128 - status


class _Passing:
    """Signals on their way to the command; those that come before it are kept."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def to(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if signal.Signals(number).name in _OF_THE_TERMINAL and _is_in_the_foreground():
            # The command has it from the terminal; a second Ctrl-C means something else to many.
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


@contextmanager
def _passing_on() -> Iterator[_Passing]:
    passing = _Passing()
    previous = {}
    for name in (*_OF_THE_TERMINAL, *_SENT_TO_US):
        number = getattr(signal, name, None)
        # nohup ignores SIGHUP, and a shell SIGINT for what it starts in the background.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            previous[number] = signal.signal(number, passing.on_signal)
    try:
        yield passing
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_in_the_foreground() -> bool:
    """Whether the terminal sends its signals to our process group."""
    if sys.platform == "win32":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _resolved(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    if sys.platform != "win32":
        return list(words)
    # npm's commands are .cmd files there, which only a search along PATHEXT finds.
    import shutil

    return [shutil.which(words[0], path=env.get("PATH")) or words[0], *words[1:]]
