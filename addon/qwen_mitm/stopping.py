"""How long the end of the process may wait, and what begins it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

#: All of the end. Longer, and supervisors and people kill the process.
PATIENCE_S: Final = 2.5
_GLANCE_S: Final = 0.01
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Patience:
    """Waits until things are done; no longer than ``seconds`` in all, nor after another Ctrl-C."""

    def __init__(self, seconds: float = PATIENCE_S) -> None:
        self._deadline = time.monotonic() + seconds
        self._is_over = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            # Windows' loop has no signals.
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The handlers stay: whoever presses Ctrl-C once more wants the end that is coming anyway.
        self._is_over = True

    def end(self) -> None:
        """Wait no more."""
        self._is_over = True

    async def until(self, holds: Callable[[], bool]) -> bool:
        """Whether it came about."""
        while not holds():
            if self._is_over or time.monotonic() >= self._deadline:
                return False
            await asyncio.sleep(_GLANCE_S)
        return True


def stop_on_hangup(stop: Callable[[], None]) -> None:
    """A closed terminal is a request to stop, unless somebody said otherwise (nohup)."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:

        def leave() -> None:
            _let_go_of_terminals()
            stop()

        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(hangup, leave)


def _let_go_of_terminals() -> None:
    """mitmproxy ends at once, without its ``done``, when it cannot print."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        with suppress(OSError):
            # One that is closed is no terminal any more, but still of this kind.
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)
