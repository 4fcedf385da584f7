"""A FailoverLayer without sockets or clocks, between peers that check every byte.

A command that needs an answer (a hook, a connect) is answered after the event that caused it, as
mitmproxy does; :attr:`LayerDriver.held` delays the answers of hooks, ``connects_hang`` those of
connects. A second passes when :meth:`LayerDriver.tick` is called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode

from qwen_mitm.exchange import Exchange
from qwen_mitm.failover_layer import TICK_S, AttemptHook, FailoverLayer
from tests.layer_peers import (
    Answer,
    Attempt,
    Fields,
    Http1Peer,
    Http1Upstream,
    Http2Peer,
    Http2Upstream,
    Upstream,
)

CLAIMED_HOST = "claimed.test"

type Version = Literal["h1", "h2"]


class FakeGateway:
    """Claims one host, and has an exchange ready for each request in turn."""

    def __init__(self, *exchanges: Exchange, body_limit: int = 1_000_000) -> None:
        self.body_limit = body_limit
        self.waiting = deque(exchanges)
        self.exchanges: dict[str, Exchange] = {}
        self.turns: list[http.HTTPFlow] = []
        """Of WebSockets."""
        self.knows_sockets = True

    def claims(self, flow: http.HTTPFlow) -> bool:
        return flow.request.host == CLAIMED_HOST

    def via(self, scheme: str, host: str, port: int) -> None:
        return None

    def claims_address(self, host: str, port: int) -> bool:
        return host == CLAIMED_HOST

    def begin_turn(self, socket: http.HTTPFlow, turn: http.HTTPFlow) -> bool:
        self.turns.append(turn)
        return self.knows_sockets

    def exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        if flow.id not in self.exchanges and self.waiting:
            self.exchanges[flow.id] = self.waiting.popleft()
        return self.exchanges.get(flow.id)


class LayerDriver:
    """One client connection and all that hangs on it."""

    def __init__(
        self, gateway: FakeGateway, client: Version = "h1", upstream: Version = "h1"
    ) -> None:
        self.upstream_version = upstream
        self.attempts: list[Attempt] = []
        self.upstreams: list[Upstream] = []
        self.hooks: list[str] = []
        self.held: set[str] = set()
        self.held_hooks: list[commands.StartHook] = []
        self.on_hook: dict[str, Callable[[Any], None]] = {}
        self.refused: set[tuple[str, int]] = set()
        self.connects_hang = False
        self.max_streams = 1_000
        self.hanging: list[commands.OpenConnection] = []
        self.wakeups: list[commands.RequestWakeup] = []
        self.writes: list[bytes] = []
        """To the client."""
        self.upstream_writes: list[bytes] = []
        self._queue: deque[events.Event] = deque()
        self._busy = False
        self.client = Client(
            peername=("127.0.0.1", 1),
            sockname=("127.0.0.1", 8080),
            timestamp_start=0.0,
            state=ConnectionState.OPEN,
        )
        self.peer = Http2Peer() if client == "h2" else Http1Peer()
        if client == "h2":
            self.client.alpn = b"h2"
        options = Options()
        Proxyserver().load(options)
        options.http2_ping_keepalive = 0
        layer = HttpLayer(Context(self.client, options), HTTPMode.regular)
        layer.__class__ = FailoverLayer
        assert isinstance(layer, FailoverLayer)
        layer.adopt(gateway)
        self.layer = layer
        self.feed(events.Start())
        self._flush_client()

    # The client --------------------------------------------------------------------------------

    def request(
        self,
        body: bytes = b"hello",
        *,
        method: str = "POST",
        host: str = CLAIMED_HOST,
        path: str = "/v1/responses",
        version: str = "1.1",
        fields: Fields = (),
    ) -> Answer:
        """Send a request; the answer fills as it comes."""
        answer = self.peer.request(method, host, path, body, fields, version=version)
        self._flush_client()
        return answer

    def leave(self, answer: Answer) -> None:
        """The client gives up this request: HTTP/1.1 closes, HTTP/2 resets the stream."""
        if isinstance(self.peer, Http2Peer):
            self.peer.reset(answer)
            self._flush_client()
        else:
            self.hang_up()

    def hang_up(self) -> None:
        self.client.state &= ~ConnectionState.CAN_READ
        self.feed(events.ConnectionClosed(self.client))
        # As mitmproxy's ConnectionHandler does.
        for upstream in self.upstreams:
            if not upstream.closed:
                upstream.connection.state = ConnectionState.CLOSED
                upstream.proxy_closed()
                self.feed(events.ConnectionClosed(upstream.connection))

    def _flush_client(self) -> None:
        if (data := self.peer.data_to_send()) and self.client.connected:
            self.feed(events.DataReceived(self.client, data))

    # Time and hooks ----------------------------------------------------------------------------

    def tick(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            due = [w for w in self.wakeups if w.delay == TICK_S]
            self.wakeups = [w for w in self.wakeups if w.delay != TICK_S]
            for wakeup in due:
                self.feed(events.Wakeup(wakeup))

    def wake(self) -> None:
        """Let the waits that are not ticks end."""
        due = [w for w in self.wakeups if w.delay != TICK_S]
        self.wakeups = [w for w in self.wakeups if w.delay == TICK_S]
        for wakeup in due:
            self.feed(events.Wakeup(wakeup))

    def release_hooks(self) -> None:
        self.held.clear()
        hooks, self.held_hooks = self.held_hooks, []
        for hook in hooks:
            self._hook(hook)
            self._work()

    def finish_connects(self) -> None:
        self.connects_hang = False
        hanging, self.hanging = self.hanging, []
        for command in hanging:
            self._open(command)
        self._work()

    # The proxy ---------------------------------------------------------------------------------

    def feed(self, event: events.Event) -> None:
        """Hand an event to the layer, and everything that follows from it."""
        self.later(event)
        self._work()

    def later(self, event: events.Event) -> None:
        self._queue.append(event)

    def _work(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                for command in self._handle(self._queue.popleft()):
                    self._carry_out(command)
        finally:
            self._busy = False

    def _handle(self, event: events.Event) -> Iterator[commands.Command]:
        yield from self.layer.handle_event(event)

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.StartHook():
                self._hook(command)
            case commands.OpenConnection():
                self._open(command)
            case commands.SendData():
                self._send(command.connection, command.data)
            case commands.CloseConnection():
                self._close(command)
            case commands.RequestWakeup():
                self.wakeups.append(command)
            case commands.Log():
                pass
            case _:
                raise AssertionError(command)

    def _hook(self, hook: commands.StartHook) -> None:
        if hook.name in self.held:
            self.held_hooks.append(hook)
            return
        self.hooks.append(hook.name)
        (argument,) = hook.args()
        if isinstance(hook, AttemptHook):
            argument.decide()
        if act := self.on_hook.get(hook.name):
            act(argument)
        if hook.blocking:
            self.later(events.HookCompleted(hook))

    def _open(self, command: commands.OpenConnection) -> None:
        connection = command.connection
        if self.connects_hang:
            self.hanging.append(command)
        elif connection.address in self.refused:
            connection.error = "connection refused"
            self.later(events.OpenConnectionCompleted(command, connection.error))
        else:
            connection.state = ConnectionState.OPEN
            self.later(events.OpenConnectionCompleted(command, None))
            if self.upstream_version == "h2":
                connection.alpn = b"h2"
                self.upstreams.append(Http2Upstream(self, connection))
            else:
                self.upstreams.append(Http1Upstream(self, connection))

    def _send(self, connection: Connection, data: bytes) -> None:
        if connection is self.client:
            self.writes.append(data)
            self.peer.receive(data)
            if answer := self.peer.data_to_send():
                self.later(events.DataReceived(connection, answer))
        elif connection.connected:
            self.upstream_writes.append(data)
            self._upstream(connection).receive(data)

    def _close(self, command: commands.CloseConnection) -> None:
        connection = command.connection
        if isinstance(command, commands.CloseTcpConnection) and command.half_close:
            connection.state &= ~ConnectionState.CAN_WRITE
            return
        if connection.state is ConnectionState.CLOSED:
            return
        if connection.state & ConnectionState.CAN_READ:
            self.later(events.ConnectionClosed(connection))
        connection.state = ConnectionState.CLOSED
        if connection is self.client:
            self.peer.proxy_closed()
        else:
            self._upstream(connection).proxy_closed()

    def _upstream(self, connection: Connection) -> Upstream:
        return next(u for u in self.upstreams if u.connection is connection)
