"""The listening side, and the Python interface for tests."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .application import Portal, State
from .authority import tls_context
from .http1 import Http1Connection
from .http2 import Http2Connection
from .journal import ReceivedRequest
from .oauth import OAuth
from .script import Line
from .web_site import WebSite

_BACKLOG = 1024
_PATIENCE = 10.0


class Simulator:
    """A Qwen on 127.0.0.1, from ``async with`` on.

    Without ``accounts`` (bearer to account name) and without logins every bearer that is not empty
    is accepted.
    ``limits`` bounds the input of a model in characters. ``directory`` keeps the authority's
    certificate; without one it is gone at the end.
    """

    def __init__(
        self,
        *,
        tls: bool = True,
        http2: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        directory: Path | None = None,
        accounts: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        max_streams: int = 512,
    ) -> None:
        self.state = State(accounts=dict(accounts or {}), limits=dict(limits or {}))
        self.host = host
        self.port = port
        self._tls = tls
        self._http2 = http2
        self._directory = directory
        self._max_streams = max_streams
        self._stack = AsyncExitStack()
        self._connections: set[asyncio.Task[Any]] = set()
        self._portal = Portal(self.state)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            context = self._context(stack) if self._tls else None
            server = await asyncio.start_server(
                self._serve, self.host, self.port, ssl=context, backlog=_BACKLOG
            )
            stack.push_async_callback(self._stop, server)
            self.port = server.sockets[0].getsockname()[1]
            self.oauth.origin = self.url
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await server.wait_closed()

    @property
    def url(self) -> str:
        """Without a path."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"{self.url}/v1"

    @property
    def ca_pem(self) -> Path:
        """The authority's certificate. Only while it runs, and only with TLS."""
        if self._directory is None:
            raise RuntimeError("there is no certificate: the simulator does not run with TLS")
        return self._directory / "ca.pem"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far but those to the control endpoint."""
        return self.state.journal.requests

    @property
    def oauth(self) -> OAuth:
        """The authorization server: its logins, their terms, its script."""
        return self.state.oauth

    @property
    def web(self) -> WebSite:
        """The web chat: its logins, its chats, its scripts."""
        return self.state.web

    def script(self, lines: Iterable[str | Mapping[str, Any] | Line]) -> None:
        """Queue behaviours for the next chat requests; rules are checked first all the same."""
        self.state.script.add(lines)

    def release(self, gate: str = "gate") -> None:
        """Let all answers that wait at the gate go on; it stays open."""
        self.state.journal.release(gate)

    def reset(self) -> None:
        """Forget what was received, what is queued, and every login."""
        self.state.reset()

    async def wait_for(self, predicate: Callable[[], bool]) -> None:
        """Wait until the predicate about ``requests`` holds; TimeoutError after ten seconds."""
        if not await self.state.journal.wait_for(predicate, _PATIENCE):
            raise TimeoutError(f"not in {_PATIENCE} s; received: {self.requests}")

    async def received(self, count: int = 1) -> None:
        """Wait until that many requests have arrived."""
        await self.wait_for(lambda: self.state.journal.has(received=count))

    async def closed(self, count: int = 1) -> None:
        """Wait until that many answers are over, one way or another."""
        await self.wait_for(lambda: self.state.journal.has(closed=count))

    async def reached(self, gate: str = "gate") -> None:
        """Wait until an answer stands at the gate."""
        await self.wait_for(lambda: self.state.journal.stands_at(gate))

    def _context(self, stack: AsyncExitStack) -> ssl.SSLContext:
        if self._directory is None:
            temporary = tempfile.TemporaryDirectory(prefix="qwen-simulator-")
            self._directory = Path(stack.enter_context(temporary))
        self._directory.mkdir(parents=True, exist_ok=True)
        return tls_context(self.ca_pem, http2=self._http2)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._connection(reader, writer).serve()
        except asyncio.CancelledError:
            # Only __aexit__ cancels, and the stream protocol complains about a cancelled task.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            await _close(writer)

    def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Http1Connection | Http2Connection:
        journal = self.state.journal
        journal.connections += 1
        number = journal.connections
        tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            return Http2Connection(
                reader,
                writer,
                number=number,
                journal=journal,
                application=self._portal,
                max_streams=self._max_streams,
            )
        return Http1Connection(
            reader, writer, number=number, journal=journal, application=self._portal
        )


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(1):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
