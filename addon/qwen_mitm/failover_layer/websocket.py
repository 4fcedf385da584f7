"""A client's WebSocket, which ends here: each ``response.create`` becomes a request of its own.

It stands in the place of the client's HTTP connection and speaks to the streams as that does. So a
turn passes the same hooks, attempts and waits as a POST, and has a flow of its own.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketStartHook
from wsproto import ConnectionType
from wsproto import connection as wsproto_connection
from wsproto import events as frames
from wsproto.frame_protocol import CloseReason

from qwen_mitm.errors import (
    BridgeError,
    InvalidRequest,
    RequestTooLarge,
    TooManyTurns,
    UpstreamUnreachable,
)
from qwen_mitm.wire.websocket import (
    Create,
    EventMessages,
    error_message,
    read_message,
    refusal_message,
)

#: Lanes that run side by side on one connection.
MOST_LANES: Final = 32
#: Turns that wait for others on their lanes.
MOST_WAITING: Final = 32
#: So often a silent client is asked whether it is there; mitmproxy closes idle connections.
PING_S: Final = 120.0

type Commands = layer.CommandGenerator[None]

_OF_THE_UPGRADE = ("connection", "upgrade", "content-", "sec-websocket-", "transfer-encoding")


class SocketGateway(Protocol):
    """What a WebSocket asks of the addon. No method may raise."""

    @property
    def body_limit(self) -> int:
        """Bytes of a message."""

    def begin_turn(self, socket: http.HTTPFlow, turn: http.HTTPFlow) -> bool:
        """A turn of this WebSocket is about to begin. False: the addon knows no such socket."""


@dataclass
class Upgraded(HttpEvent):
    """The client has its 101: from here on its connection is a WebSocket."""

    flow: http.HTTPFlow
    gateway: SocketGateway


@dataclass(slots=True)
class Answer:
    """What the client gets for one turn."""

    lane: str | None
    messages: EventMessages
    response: http.Response | None = None
    streams: bool = False
    body: bytearray = field(default_factory=bytearray)
    """Of an answer that does not stream: an error."""


class Socket(Http1Server):
    """The client's connection after the upgrade, made of the ``Http1Server`` by :meth:`begin`."""

    flow: http.HTTPFlow
    gateway: SocketGateway
    stream_ids: Iterator[int]
    ws: wsproto_connection.Connection
    answers: dict[int, Answer]
    """Of the turns that run, by the ids of their streams."""
    lanes: dict[str | None, deque[Create]]
    """What waits on each lane that is busy."""
    message: bytearray
    fault: BridgeError | None
    """Why the message that is arriving will be refused."""
    alarm: commands.RequestWakeup | None
    heard: bool
    ended: bool

    def begin(self, upgraded: Upgraded) -> Commands:
        """Stand in for ``__init__``, which ran as that of the stock class."""
        self.flow = upgraded.flow
        self.gateway = upgraded.gateway
        self.stream_ids = itertools.count(upgraded.stream_id + 2, 2)
        self.ws = wsproto_connection.Connection(ConnectionType.SERVER)
        self.answers = {}
        self.lanes = {}
        self.message = bytearray()
        self.fault = None
        self.alarm = None
        self.heard = True
        self.ended = False
        yield WebsocketStartHook(self.flow)
        yield from self._set_alarm()
        early = bytes(self.buf.maybe_extract_at_most(len(self.buf)) or b"")
        if early:
            yield from self._received(early)

    def _handle_event(self, event: events.Event) -> Commands:
        if self.ended:
            return
        match event:
            case HttpEvent():
                yield from self._answer(event)
            case events.DataReceived(data=data):
                yield from self._received(data)
            case events.ConnectionClosed() if self.conn.state is ConnectionState.CLOSED:
                # By mitmproxy, which ends; what is written now still leaves.
                yield from self._closed(frames.CloseConnection(CloseReason.GOING_AWAY))
            case events.ConnectionClosed():
                yield from self._received(None)
            case events.Wakeup():
                yield from self._woken(event)

    # The client's messages ---------------------------------------------------------------------

    def _received(self, data: bytes | None) -> Commands:
        self.heard = True
        self.ws.receive_data(data)
        for frame in self.ws.events():
            match frame:
                case frames.Message():
                    yield from self._piece(frame)
                case frames.Ping():
                    yield commands.SendData(self.conn, self.ws.send(frame.response()))
                case frames.CloseConnection():
                    yield from self._closed(frame)
            if self.ended:
                return

    def _piece(self, piece: frames.Message[Any]) -> Commands:
        limit = self.gateway.body_limit
        if not isinstance(piece, frames.TextMessage):
            self.fault = InvalidRequest("Messages are JSON in text frames, not binary ones.")
        elif self.fault is None:
            self.message += piece.data.encode()
            if len(self.message) > limit:
                self.fault = RequestTooLarge(
                    f"The message is larger than {limit // 2**20} MB. Shorten the conversation "
                    "or raise qwen_max_body_mb."
                )
                self.message.clear()
        if not piece.message_finished:
            return
        text, self.message = bytes(self.message), bytearray()
        fault, self.fault = self.fault, None
        if fault is not None:
            yield from self._send([refusal_message(fault)])
            return
        match read_message(text):
            case Create() as create:
                yield from self._create(create)
            case bytes() as reply:
                yield from self._send([reply])

    def _create(self, create: Create) -> Commands:
        """Turns of one lane follow each other, lanes run side by side."""
        waiting = self.lanes.get(create.stream_id)
        if waiting is None and len(self.lanes) < MOST_LANES:
            self.lanes[create.stream_id] = deque()
            yield from self._begin(create)
        elif waiting is not None and self._has_room_for(create):
            waiting.append(create)
        else:
            error = TooManyTurns(
                "Too many responses are waiting on this connection. Send it later."
            )
            yield from self._send([refusal_message(error, create.stream_id)])

    def _has_room_for(self, create: Create) -> bool:
        waiting = [each for lane in self.lanes.values() for each in lane]
        size = sum(len(each.body) for each in waiting) + len(create.body)
        return len(waiting) < MOST_WAITING and size <= self.gateway.body_limit

    # Turns -------------------------------------------------------------------------------------

    def _begin(self, create: Create) -> Commands:
        flow = http.HTTPFlow(self.context.client, self.context.server)
        if not self.gateway.begin_turn(self.flow, flow):
            # The addon was reloaded.
            yield from self._closed(frames.CloseConnection(CloseReason.SERVICE_RESTART))
            return
        stream_id = next(self.stream_ids)
        self.answers[stream_id] = Answer(create.stream_id, EventMessages(create.stream_id))
        request = _turn_request(self.flow.request, create.body)
        # A flow that is "replayed" is one that exists before its stream.
        yield ReceiveHttp(RequestHeaders(stream_id, request, end_stream=False, replay_flow=flow))
        yield ReceiveHttp(RequestData(stream_id, create.body))
        yield ReceiveHttp(RequestEndOfMessage(stream_id))

    def _answer(self, event: HttpEvent) -> Commands:
        answer = self.answers.get(event.stream_id)
        if answer is None:
            return
        match event:
            case ResponseData(data=data) if answer.streams:
                # What has no event keeps the connection alive.
                messages = answer.messages.feed(data)
                yield from self._send(messages) if messages else self._ping()
            case ResponseData(data=data):
                answer.body += data
            case ResponseHeaders(response=response):
                answer.response = response
                kind = response.headers.get("content-type", "")
                answer.streams = kind.startswith("text/event-stream")
            case ResponseEndOfMessage():
                if answer.response is not None and not answer.streams:
                    status, headers = answer.response.status_code, answer.response.headers
                    error = error_message(status, bytes(answer.body), headers, answer.lane)
                    yield from self._send([error])
                yield from self._next_turn(event.stream_id, answer.lane)
            case ResponseProtocolError(message=message):
                lost = UpstreamUnreachable(message)
                yield from self._send([refusal_message(lost, answer.lane)])
                yield from self._next_turn(event.stream_id, answer.lane)

    def _next_turn(self, stream_id: int, lane: str | None) -> Commands:
        del self.answers[stream_id]
        if waiting := self.lanes[lane]:
            yield from self._begin(waiting.popleft())
        else:
            del self.lanes[lane]

    # Frames ------------------------------------------------------------------------------------

    def _send(self, messages: Sequence[bytes]) -> Commands:
        texts = (frames.TextMessage(message.decode("utf-8", "replace")) for message in messages)
        yield commands.SendData(self.conn, b"".join(self.ws.send(text) for text in texts))

    def _ping(self) -> Commands:
        yield commands.SendData(self.conn, self.ws.send(frames.Ping()))

    def _set_alarm(self) -> Commands:
        self.alarm = commands.RequestWakeup(PING_S)
        yield self.alarm

    def _woken(self, event: events.Wakeup) -> Commands:
        if event.command is not self.alarm:
            return
        if not self.heard:
            # It has not answered the last ping.
            yield from self._received(None)
            return
        self.heard = False
        yield from self._ping()
        yield from self._set_alarm()

    def _closed(self, close: frames.CloseConnection) -> Commands:
        """The client closes, has broken the protocol, or is gone: so are its turns."""
        self.ended = True
        state = self.ws.state
        if state is not wsproto_connection.ConnectionState.CLOSED:
            yield commands.SendData(self.conn, self.ws.send(close))
        if self.conn.state is not ConnectionState.CLOSED:
            yield commands.CloseConnection(self.conn)
        self.lanes.clear()
        for stream_id in self.answers:
            yield ReceiveHttp(
                RequestProtocolError(
                    stream_id, "Client disconnected.", ErrorCode.CLIENT_DISCONNECTED
                )
            )
        self.answers = {}
        if socket := self.flow.websocket:
            socket.timestamp_end = time.time()
            socket.closed_by_client = state is not wsproto_connection.ConnectionState.OPEN
            socket.close_code, socket.close_reason = close.code, close.reason
        yield WebsocketEndHook(self.flow)
        self.flow.live = False


def _turn_request(upgrade: http.Request, body: bytes) -> http.Request:
    """The POST that a ``response.create`` stands for."""
    request = upgrade.copy()
    request.method = "POST"
    for name in list(request.headers):
        if name.lower().startswith(_OF_THE_UPGRADE):
            request.headers.pop(name, None)
    request.headers["content-type"] = "application/json"
    request.headers["content-length"] = str(len(body))
    request.timestamp_start = time.time()
    return request
