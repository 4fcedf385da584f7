"""Signals that end a command leave its blocks in order, as an exception."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class Ended(BaseException):
    """A signal asked for the end; not an Exception, as nobody is to catch it on the way."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(signal.Signals(number).name)


@contextmanager
def ending_signals_raise() -> Iterator[None]:
    """Within this block they raise Ended; those that are ignored stay ignored."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    previous = {}
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            previous[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
