"""The client's connection: its streams, its clock, and the upstream connections that they share."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Client

from qwen_mitm.errors import BridgeError

from .http1 import PatientHttp1Client, PatientHttp1Server
from .http2 import JoiningH2Connection
from .stream import TICK_S, Commands, Ending, FailoverStream, Gateway, Tick, nothing
from .websocket import Socket

#: Joining more would copy more than it saves.
LARGEST_JOINED = 64 * 1024
#: Those of all connections.
LAYERS: weakref.WeakSet[FailoverLayer] = weakref.WeakSet()


def in_few_writes(stock: Commands) -> Commands:
    """Join what one event writes to a connection: a head and its body, an answer and its end.

    mitmproxy makes a system call, and with TLS a record, of each ``SendData``. What stands between
    two of them keeps its place, so nothing waits.
    """
    held: list[commands.SendData] = []
    size = 0
    for command in stock:
        if isinstance(command, commands.SendData):
            size += len(command.data)
            if held and (size > LARGEST_JOINED or command.connection is not held[0].connection):
                yield _as_one(held)
                held, size = [], len(command.data)
            held.append(command)
            continue
        if held:
            yield _as_one(held)
            held, size = [], 0
        yield command
    if held:
        yield _as_one(held)


def _as_one(writes: list[commands.SendData]) -> commands.SendData:
    if len(writes) == 1:
        return writes[0]
    return commands.SendData(writes[0].connection, b"".join(write.data for write in writes))


class FailoverLayer(HttpLayer):
    """The ``HttpLayer`` of one client connection, made of a stock one by :func:`install`."""

    gateway: Gateway
    aliases: Iterator[int]
    active: set[FailoverStream]
    ticker: commands.RequestWakeup | None
    used: weakref.WeakSet[Connection]
    closed: list[Connection]
    ending: BridgeError | None
    """What the streams have to end with, because the proxy does."""

    def adopt(self, gateway: Gateway) -> None:
        """Stand in for ``__init__``, which ran as that of the stock class."""
        self.gateway = gateway
        # Clients' stream ids are positive.
        self.aliases = itertools.count(-1, -1)
        self.active = set()
        self.ticker = None
        self.used = weakref.WeakSet()
        self.closed = []
        self.ending = None
        LAYERS.add(self)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.ConnectionClosed) and isinstance(event.connection, Server):
            return self._server_closed(event)
        if isinstance(event, events.Wakeup) and event.command is self.ticker:
            self.command_sources.pop(event.command, None)
            return self._tick()
        if isinstance(event, events.Wakeup) and event.command not in self.command_sources:
            # The clock of a connection that was ended before its second was over.
            return nothing()
        if isinstance(event, events.MessageInjected) and self._is_socket:
            # mitmproxy looks for the stream of an HTTP/1.1 connection here, and there is none.
            return self._refuse_injection()
        stock: Commands = super()._handle_event(event)
        if self.active:
            return in_few_writes(stock)
        return self._start(stock) if isinstance(event, events.Start) else stock

    def _start(self, stock: Commands) -> Commands:
        yield from stock
        server = self.connections[self.context.client]
        if type(server) is Http1Server:
            server.__class__ = PatientHttp1Server

    def _server_closed(self, event: events.ConnectionClosed) -> Commands:
        """Forget connections that nobody uses any more.

        mitmproxy keeps them, TLS and all, as long as the client's connection lasts; that is 80 kB
        for each request when HTTP/2 becomes HTTP/1.1.
        """
        stock: Commands = super()._handle_event(event)
        yield from stock
        self.closed.append(event.connection)
        wanted = {self.context.server, *(each.context.server for each in self.streams.values())}
        for connection in [each for each in self.closed if each not in wanted]:
            if connection.state is ConnectionState.CLOSED:
                self.closed.remove(connection)
                self.connections.pop(connection, None)

    @property
    def _is_socket(self) -> bool:
        return isinstance(self.connections[self.context.client], Socket)

    def _refuse_injection(self) -> Commands:
        yield commands.Log("This WebSocket ends here; nothing can be injected into it.")

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Keep the turns of a WebSocket from sharing an HTTP/1.1 connection.

        mitmproxy knows that clients of HTTP/1.1 have one request at a time.
        """
        if not self._is_socket:
            yield from super().get_connection(event, reuse=reuse)
            return
        matching = [each for each in self.connections if event.connection_spec_matches(each)]
        free = next((each for each in matching if self._takes_requests(each)), None)
        if free is None:
            # One that failed would answer for the new one.
            yield from super().get_connection(event, reuse=False)
            return
        stream = self.command_sources.pop(event)
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (free, None)))

    def _takes_requests(self, connection: Connection) -> bool:
        if connection in self.waiting_for_establishment or not connection.connected:
            return False
        client = self.connections[connection].context.layers[-1]
        if not isinstance(client, Http1Client):
            return True
        # A new one is promised to the turn that it was opened for.
        return client.stream_id is None and connection in self.used

    def make_stream(self, stream_id: int) -> Commands:
        stream = FailoverStream(self.context.fork(), stream_id)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def watch(self, stream: FailoverStream) -> Commands:
        """Hand ticks to a stream until it retires."""
        self.active.add(stream)
        if self.ticker is None:
            self.ticker = commands.RequestWakeup(TICK_S)
            yield self.ticker

    def _tick(self) -> Commands:
        self.ticker = None
        if self.ending is not None:
            for stream in list(self.active):
                yield from self.event_to_child(stream, Ending(self.ending))
            return
        for stream in list(self.active):
            # The time that a hook takes (a refresh, a person in mitmweb) is nobody's silence.
            if stream._paused is None:
                yield from self.event_to_child(stream, Tick())
        if self.active:
            self.ticker = commands.RequestWakeup(TICK_S)
            yield self.ticker

    def note_use(self, connection: Connection) -> bool:
        """Whether the connection served a request before; a new one learns manners."""
        if connection in self.used:
            return True
        self.used.add(connection)
        client = self.connections[connection].context.layers[-1]
        if type(client) is Http1Client:
            client.__class__ = PatientHttp1Client
            client.state = client.read_headers
        elif isinstance(client, Http2Client):
            client.h2_conn.__class__ = JoiningH2Connection
        return False

    def take_back(self, connection: Connection, alias: int) -> bool:
        """Whether the request still queued for an HTTP/2 stream; it would be sent all the same."""
        client = self.connections[connection].context.layers[-1]
        return isinstance(client, Http2Client) and bool(client.stream_queue.pop(alias, None))

    def forget_failed_connections(self) -> None:
        """A failed connect is kept on its ``Server`` and would answer every later request."""
        for connection in [self.context.server, *self.connections]:
            if isinstance(connection, Server):
                connection.error = None
