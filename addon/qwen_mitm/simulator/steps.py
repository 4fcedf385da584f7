"""An answer as a list of steps, and playing it over a connection."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .exchange import Exchange, Headers
from .journal import Journal

_ENDLESS_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes that go out in one piece. ``chunks`` is how many chunks of the answer they finish."""

    data: bytes
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class At:
    """Wait until so many seconds after the head: pacing that does not drift."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitFor:
    gate: str


@dataclass(frozen=True, slots=True)
class Endless:
    """The same bytes again and again until the client goes away; no bytes: silence."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Break:
    how: Literal["reset", "close", "abort"]


type Step = Send | Pause | At | WaitFor | Endless | Break
type Staging = Callable[[list[Step]], list[Step]]


@dataclass(slots=True)
class Performance:
    """All that is done for one request."""

    status: int
    headers: list[tuple[str, str]]
    steps: Sequence[Step]
    before: Sequence[Step] = ()
    hints: Headers = ()
    trailers: Headers = ()
    until_close: bool = False
    gzip: bool = False
    content_length: int | None = None


class _Broken(Exception):
    """The simulator broke the answer off on purpose."""


async def play(performance: Performance, exchange: Exchange, journal: Journal) -> None:
    """Play until the end, a break, or the client is gone (then ClientGone is raised)."""
    player = _Player(exchange, journal, gzip=performance.gzip)
    try:
        for step in performance.before:
            await player.take(step)
        if performance.hints:
            await exchange.inform(103, performance.hints)
        await exchange.start(
            performance.status, _headers(performance, exchange), until_close=performance.until_close
        )
        player.started = time.monotonic()
        for step in performance.steps:
            await player.take(step)
        await player.flush()
        await exchange.end(performance.trailers)
    except _Broken:
        journal.close(exchange.request, "broken")
    else:
        journal.close(exchange.request, "answered")


def _headers(performance: Performance, exchange: Exchange) -> list[tuple[str, str]]:
    headers = list(performance.headers)
    if performance.gzip:
        headers.append(("content-encoding", "gzip"))
    elif performance.content_length is not None and not performance.until_close:
        headers.append(("content-length", str(performance.content_length)))
    if exchange.request.http_version == "2":
        return [(name, value) for name, value in headers if name != "connection"]
    return headers


class _Player:
    def __init__(self, exchange: Exchange, journal: Journal, *, gzip: bool) -> None:
        self.started = time.monotonic()
        self._exchange = exchange
        self._journal = journal
        self._gzip = zlib.compressobj(wbits=zlib.MAX_WBITS | 16) if gzip else None

    async def take(self, step: Step) -> None:
        match step:
            case Send(data, chunks):
                await self._send(data)
                self._exchange.request.chunks_sent += chunks
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case At(seconds):
                await asyncio.sleep(max(0.0, self.started + seconds - time.monotonic()))
            case WaitFor(gate):
                self._exchange.request.waits_at = gate
                self._journal.notify()
                await self._journal.gate(gate).wait()
                self._exchange.request.waits_at = None
            case Endless(data):
                await self._endless(data)
            case Break(how):
                await self._break(how)

    async def flush(self) -> None:
        if self._gzip is not None:
            await self._exchange.send(self._gzip.flush())

    async def _send(self, data: bytes) -> None:
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        if data:
            await self._exchange.send(data)

    async def _endless(self, data: bytes) -> None:
        if not data:
            await asyncio.Event().wait()
        while True:
            await self._send(data)
            await asyncio.sleep(_ENDLESS_PAUSE)

    async def _break(self, how: str) -> None:
        match how:
            case "reset":
                await self._exchange.reset()
            case "close":
                await self._exchange.close()
            case _:
                await self._exchange.abort()
        raise _Broken
