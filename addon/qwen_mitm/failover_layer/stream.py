"""The stream: what becomes of one claimed request. A state machine, all of it here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http
from mitmproxy.connection import Connection, Server
from mitmproxy.net.http import status_codes
from mitmproxy.net.http.url import hostport
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpErrorHook,
    HttpEvent,
    HTTPMode,
    HttpRequestHeadersHook,
    HttpResponseHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from qwen_mitm.errors import BridgeError, RequestTooLarge, TranslationFault
from qwen_mitm.exchange import (
    Answer,
    Broken,
    Exchange,
    FailedAnswer,
    GiveUp,
    Outcome,
    Refused,
    Send,
    Wait,
)

from .websocket import SocketGateway, Upgraded

if TYPE_CHECKING:
    from .connection import FailoverLayer

TICK_S = 1.0
CONNECT_TIMEOUT_TICKS = 30
#: After the finish reason: some hosts send no end marker and leave the connection open.
LAST_WORD_TICKS = 5
#: A failed answer is read this far, for its message and to keep the connection.
DRAIN_LIMIT_BYTES = 64 * 1024
DRAIN_LIMIT_TICKS = 3
#: Answers with these statuses end with their head.
BODILESS = frozenset({204, 304})

type Commands = layer.CommandGenerator[None]


class Gateway(SocketGateway, Protocol):
    """The addon, as the layer sees it. No method may raise."""

    @property
    def body_limit(self) -> int:
        """Bytes of a claimed request's body, or of a message."""

    def claims(self, flow: http.HTTPFlow) -> bool: ...

    def claims_address(self, host: str, port: int) -> bool: ...

    def via(self, scheme: str, host: str, port: int) -> ServerSpec | None:
        """The proxy through which the network reaches a host; None: it needs none."""

    def exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        """What the request hooks made of a claimed flow; None is a fault of ours."""


@dataclass
class AttemptHook(commands.StartHook):
    """What next? An addon's ``async def qwen_attempt(exchange)`` sets ``exchange.decision``."""

    name = "qwen_attempt"
    exchange: Exchange


@dataclass
class Connect(GetHttpConnection):
    """GetHttpConnection that does not pause the stream.

    mitmproxy pauses on ``blocking is True`` and routes the reply on any true value. A paused stream
    would neither notice that the client left nor send heartbeats while a connect hangs.
    """

    blocking: Any = field(default=1, init=False)

    def __hash__(self) -> int:
        return id(self)


class Tick(events.Event):
    """A second has passed."""


@dataclass
class Ending(events.Event):
    """The proxy ends, and so does the stream, with this."""

    error: BridgeError


@dataclass(slots=True)
class Attempt:
    """The attempt in flight. ``alias`` is the stream id that the upstream connection sees.

    ``Http2Client`` maps an id to one of its own for ever, so every attempt needs a fresh one.
    """

    alias: int
    send: Send
    connect: Connect
    connection: Connection | None = None
    reused: bool = False
    response: http.Response | None = None
    drained: bytearray = field(default_factory=bytearray)


class FailoverStream(HttpStream):
    """An ``HttpStream`` whose server side is driven by an :class:`Exchange` when it is claimed."""

    exchange: Exchange | None = None
    attempt: Attempt | None = None
    opened = False
    """The head of the client's answer was sent."""
    quiet = 0
    """Ticks since the client got a byte."""
    silent = 0
    """Ticks since the upstream sent a byte, or since the attempt began."""
    wakeup: commands.RequestWakeup | None = None
    chosen_via: ServerSpec | None = None
    """The proxy that the mode or another addon wants, whatever the destination is."""

    @property
    def parent(self) -> FailoverLayer:
        # Its module imports this one.
        return cast("FailoverLayer", self.context.layers[self.context.layers.index(self) - 1])

    # The client's side -------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> Commands:
        # Not a generator itself: streams that are not ours pay nothing per event.
        if isinstance(event, HttpEvent) and event.stream_id < 0:
            return self._from_upstream(event)
        if isinstance(event, Tick):
            return self._tick()
        if isinstance(event, GetHttpConnectionCompleted):
            return self._connected(event)
        if isinstance(event, Ending):
            return self._end(event.error)
        if isinstance(event, events.Wakeup):
            return self._woken(event)
        if self.exchange and isinstance(event, RequestProtocolError):
            return self._client_left(event)
        stock: Commands = super()._handle_event(event)
        return stock

    def _from_upstream(self, event: HttpEvent) -> Commands:
        """An event of one of our attempts. Some are late: they waited while a hook ran."""
        if self.attempt is None or self.attempt.alias != event.stream_id:
            return nothing()
        if isinstance(event, ResponseProtocolError):
            return self._upstream_lost(event.message)
        if isinstance(event, ResponseData) and not event.data:
            # An empty HTTP/2 DATA frame.
            return nothing()
        streaming: Commands = self.server_state(event)
        return streaming

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """Keep ``stream_large_bodies`` away from claimed requests: they must be rewritten."""
        gateway = self.parent.gateway
        if not gateway.claims(self.flow):
            return (yield from super().check_body_size(request))
        announced = self.flow.request.headers.get("content-length", "")
        early = not self.request_body_buf
        size = int(announced) if early and announced.isdigit() else len(self.request_body_buf)
        if size <= gateway.body_limit:
            return False
        self.request_body_buf.clear()
        self.client_state = self.state_discard_request_body
        if early:
            yield HttpRequestHeadersHook(self.flow)
            if self.flow.request.headers.get("expect", "").lower() == "100-continue":
                # Such a client sends its body, and reads, only after this.
                go_on = http.Response.make(100)
                go_on.headers.clear()
                yield SendHttp(ResponseHeaders(self.stream_id, go_on), self.context.client)
        return True

    def start_request_stream(self) -> Commands:
        if not self.parent.gateway.claims(self.flow):
            yield from super().start_request_stream()
            return
        self.flow.request.stream = False
        self.client_state = self.state_consume_request_body

    def state_discard_request_body(self, event: events.Event) -> Commands:
        # The client reads its answer only after it has sent everything.
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            limit = self.parent.gateway.body_limit
            error = RequestTooLarge(
                f"The request body is larger than {limit // 2**20} MB. Shorten the conversation "
                "or raise qwen_max_body_mb."
            )
            yield from self._respond(refusal(error))

    def _client_left(self, event: RequestProtocolError) -> Commands:
        ended = self.server_state in (self.state_done, self.state_errored)
        # mitmproxy closes all connections of a client that is gone, and a connection that is closed
        # twice at once stays open: the second cancellation hits its handler before the close.
        yield from self._abandon(complete=not self.context.client.connected)
        self.client_state = self.server_state = self.state_errored
        if not ended:
            self.flow.error = mitmproxy_flow.Error(event.message)
            yield HttpErrorHook(self.flow)
        self._retire()
        self.flow.live = False
        yield DropStream(self.stream_id)

    # Attempts ----------------------------------------------------------------------------------

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """For a claimed request: run the attempts here and keep the stock code from sending."""
        gateway = self.parent.gateway
        if not gateway.claims(self.flow):
            return (yield from super().make_server_connection())
        self.exchange = gateway.exchange(self.flow)
        if self.exchange is None:
            yield from self._respond(refusal(_fault()))
            return False
        self.chosen_via = self.context.server.via
        yield from self.parent.watch(self)
        yield from self._next_attempt(self.exchange)
        return False

    def _next_attempt(self, exchange: Exchange) -> Commands:
        exchange.decision = None
        yield AttemptHook(exchange)
        if (yield from self.check_killed(True)):
            self._retire()
            return
        match exchange.decision:
            case Send() as send:
                yield from self._connect(send)
            case Wait(seconds):
                self.wakeup = commands.RequestWakeup(seconds)
                self.server_state = self.state_waiting
                yield self.wakeup
            case GiveUp(error):
                yield from self._give_up(exchange, error)
            case None:
                yield from self._give_up(exchange, _fault())

    def _connect(self, send: Send) -> Commands:
        via = self.chosen_via or self.parent.gateway.via(send.scheme, send.host, send.port)
        connect = Connect((send.host, send.port), send.scheme == "https", via, "tcp")
        self.attempt = Attempt(next(self.parent.aliases), send, connect)
        self.server_state = self.state_connecting
        self.silent = 0
        # The reply may come while this generator is suspended here: nothing may follow.
        yield connect

    def _connected(self, event: GetHttpConnectionCompleted) -> Commands:
        attempt = self.attempt
        if attempt is None or event.command is not attempt.connect:
            return
        connection, error = event.reply
        if connection is None:
            self.parent.forget_failed_connections()
            yield from self._failed(Broken(error or "cannot connect", "connect"))
            return
        attempt.connection = connection
        attempt.reused = self.parent.note_use(connection)
        assert isinstance(connection, Server)
        self.context.server = self.flow.server_conn = connection
        self.parent.streams[attempt.alias] = self
        self.server_state = self.state_attempt_head
        request = self._upstream_request(attempt.send)
        yield SendHttp(RequestHeaders(attempt.alias, request, not attempt.send.body), connection)
        if attempt.send.body:
            yield SendHttp(RequestData(attempt.alias, attempt.send.body), connection)
        yield SendHttp(RequestEndOfMessage(attempt.alias), connection)

    def _upstream_request(self, send: Send) -> http.Request:
        """The request with the bearer: it exists on the wire only, never in the flow."""
        stock = self.flow.request.data
        authority = hostport(send.scheme, send.host, send.port).encode()
        fields = list(send.headers)
        if send.body or stock.method not in (b"GET", b"HEAD"):
            fields.append((b"content-length", b"%d" % len(send.body)))
        multiplexed = self.flow.request.is_http2 or self.flow.request.is_http3
        # A plain HTTP request to an upstream proxy is sent in absolute form.
        absolute = self.mode is HTTPMode.upstream and send.scheme == "http"
        if not multiplexed:
            fields.insert(0, (b"Host", authority))
        return http.Request(
            host=send.host,
            port=send.port,
            method=stock.method,
            scheme=send.scheme.encode(),
            authority=authority if multiplexed or absolute else b"",
            path=send.target.encode(),
            http_version=stock.http_version if multiplexed else b"HTTP/1.1",
            headers=http.Headers(fields),
            content=None,
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )

    def _failed(self, outcome: Outcome) -> Commands:
        """This attempt is over and no byte of its answer was used: ask what next."""
        yield from self._abandon()
        assert self.exchange
        self.exchange.outcome = outcome
        yield from self._next_attempt(self.exchange)

    def _abandon(self, *, complete: bool = False) -> Commands:
        """Forget the attempt; unless its answer is complete, cancel it upstream."""
        attempt, self.attempt = self.attempt, None
        if attempt is None or attempt.connection is None:
            return
        if not complete and not self.parent.take_back(attempt.connection, attempt.alias):
            yield SendHttp(
                RequestProtocolError(attempt.alias, "given up", ErrorCode.CANCEL),
                attempt.connection,
            )
        yield DropStream(attempt.alias)

    def _give_up(self, exchange: Exchange, error: BridgeError) -> Commands:
        if self.opened:
            yield from self._finish(exchange.fail(error))
        else:
            yield from self._respond(refusal(error))

    # The upstream's answer ---------------------------------------------------------------------

    def state_connecting(self, _event: events.Event) -> Commands:
        yield from ()

    def state_waiting(self, _event: events.Event) -> Commands:
        yield from ()

    def state_attempt_head(self, event: events.Event) -> Commands:
        assert isinstance(event, ResponseHeaders)
        assert self.exchange
        assert self.attempt
        self.silent = 0
        self.attempt.response = event.response
        match self.exchange.head(event.response.status_code, event.response.headers.fields):
            case "refuse":
                self.server_state = self.state_refused
            case "offer":
                self.server_state = self.state_offered
            case "accept":
                yield from self._accept(self.exchange)

    def state_refused(self, event: events.Event) -> Commands:
        """Read a failed answer for its message, within bounds."""
        assert self.attempt
        if isinstance(event, ResponseData):
            self.attempt.drained += event.data
            if len(self.attempt.drained) > DRAIN_LIMIT_BYTES:
                yield from self._refused(self.attempt)
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._refused(self.attempt, complete=True)

    def _refused(self, attempt: Attempt, *, complete: bool = False) -> Commands:
        yield from self._abandon(complete=complete)
        assert attempt.response
        headers = {name.lower(): value for name, value in attempt.response.headers.items()}
        body = bytes(attempt.drained[:DRAIN_LIMIT_BYTES])
        yield from self._failed(Refused(attempt.response.status_code, headers, body))

    def state_offered(self, event: events.Event) -> Commands:
        """Hold the answer back until its first event shows whether it is one."""
        assert self.exchange
        if isinstance(event, ResponseData):
            self.silent = 0
            verdict = self.exchange.offer(event.data)
        elif isinstance(event, ResponseEndOfMessage):
            verdict = self.exchange.offer_end()
            yield from self._abandon(complete=True)
        else:
            return  # trailers
        if isinstance(verdict, FailedAnswer):
            yield from self._failed(verdict)
        elif verdict:
            yield from self._accept(self.exchange)
            if isinstance(event, ResponseEndOfMessage) and self.exchange:
                yield from self._finish(self.exchange.end())
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._failed(Broken("the answer was empty", "answer"))

    def _accept(self, exchange: Exchange) -> Commands:
        if not exchange.streams:
            yield from self._abandon()
            yield from self._respond(exchange.open())
            return
        if not self.opened and not (yield from self._open(exchange)):
            return
        self.server_state = self.state_streaming
        yield from self._emit(exchange.accepted())
        if exchange.finished:
            self.server_state = self.state_last_bytes

    def state_streaming(self, event: events.Event) -> Commands:
        assert self.exchange
        if isinstance(event, ResponseData):
            self.silent = 0
            data = self.exchange.feed(event.data)
            if data:
                self.quiet = 0
                yield SendHttp(ResponseData(self.stream_id, data), self.context.client)
            if self.exchange.finished:
                self.server_state = self.state_last_bytes
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._abandon(complete=True)
            yield from self._finish(self.exchange.end())

    def state_last_bytes(self, event: events.Event) -> Commands:
        """The client has its terminal event. An upstream that goes on is cut off by the next tick.

        At once would cost an HTTP/1.1 connection for each turn: ``[DONE]`` often comes by itself.
        """
        if isinstance(event, ResponseEndOfMessage):
            yield from self._abandon(complete=True)
            yield from self._finish(b"")

    def _upstream_lost(self, message: str, *, timed_out: bool = False) -> Commands:
        """The connection broke, or stayed silent for too long."""
        attempt, exchange = self.attempt, self.exchange
        if attempt is None or exchange is None:
            return
        state = self.server_state
        if state == self.state_refused:
            yield from self._refused(attempt, complete=not timed_out)
            return
        yield from self._abandon(complete=not timed_out)
        if state == self.state_last_bytes:
            yield from self._finish(b"")
        elif state == self.state_streaming:
            last = exchange.broken(Broken(message, "answer", timed_out))
            if last is None:
                yield from self._break_off(message)
            else:
                yield from self._finish(last)
        elif state == self.state_connecting:
            yield from self._failed(Broken(message, "connect", timed_out))
        else:
            at_head = state == self.state_attempt_head
            # A stream that is reset, or that hangs, tells nothing of an idle connection.
            lost = attempt.connection is not None and not attempt.connection.connected
            reused = at_head and attempt.reused and lost and not timed_out
            stage: Literal["head", "answer"] = "head" if at_head else "answer"
            yield from self._failed(Broken(message, stage, timed_out, reused))

    # The client's answer -----------------------------------------------------------------------

    def _open(self, exchange: Exchange) -> layer.CommandGenerator[bool]:
        answer = exchange.open()
        if answer.body:  # a fault of ours; it cannot be streamed
            yield from self._abandon()
            yield from self._respond(answer)
            return False
        self.flow.response = self._response(answer)
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            yield from self._abandon()
            self._retire()
            return False
        self.opened = True
        yield SendHttp(
            ResponseHeaders(self.stream_id, self.flow.response, end_stream=False),
            self.context.client,
        )
        return True

    def _response(self, answer: Answer) -> http.Response:
        """The answer as mitmproxy's; one that streams to an HTTP/1.1 client needs a framing."""
        headers = http.Headers(answer.fields)
        version = self.flow.request.data.http_version
        if answer.body or not self.exchange:
            headers["content-length"] = str(len(answer.body))
        elif (
            version == b"HTTP/1.1"
            and answer.status not in BODILESS
            and "content-length" not in headers
        ):
            headers["transfer-encoding"] = "chunked"
        return http.Response(
            http_version=version,
            status_code=answer.status,
            reason=status_codes.RESPONSES.get(answer.status, "").encode(),
            headers=headers,
            content=answer.body,
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )

    def _emit(self, data: bytes) -> Commands:
        if data:
            self.quiet = 0
            yield SendHttp(ResponseData(self.stream_id, data), self.context.client)

    def _finish(self, last: bytes) -> Commands:
        """End a streamed answer regularly."""
        yield from self._emit(last)
        self._retire()
        yield from self.send_response(already_streamed=True)

    def _respond(self, answer: Answer) -> Commands:
        """Answer in one piece, as mitmproxy does for a response that an addon has set."""
        self._retire()
        self.flow.response = self._response(answer)
        yield HttpResponseHeadersHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self.send_response()

    def _end(self, error: BridgeError) -> Commands:
        exchange = self.exchange
        if exchange is None:
            return
        yield from self._abandon()
        if not self.opened:
            yield from self._respond(refusal(error))
        elif exchange.finished:
            yield from self._finish(b"")
        elif exchange.beats:
            yield from self._finish(exchange.fail(error))
        else:
            yield from self._break_off(error.message)

    def flow_done(self) -> Commands:
        gateway = self.parent.gateway
        if not self.flow.websocket or not gateway.claims(self.flow):
            yield from super().flow_done()
            return
        yield DropStream(self.stream_id)
        yield SendHttp(Upgraded(self.stream_id, self.flow, gateway), self.context.client)

    def _break_off(self, message: str) -> Commands:
        self._retire()
        self.flow.error = mitmproxy_flow.Error(message)
        yield HttpErrorHook(self.flow)
        self.server_state = self.state_errored
        yield SendHttp(
            ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR),
            self.context.client,
        )
        self.flow.live = False
        yield DropStream(self.stream_id)

    def _retire(self) -> None:
        self.exchange = None
        self.parent.active.discard(self)

    # Time --------------------------------------------------------------------------------------

    def _tick(self) -> Commands:
        exchange = self.exchange
        if exchange is None:
            return
        self.quiet += 1
        self.silent += 1
        limit = self._silence_limit(exchange)
        if self.attempt and self.attempt.connection and not self.attempt.connection.connected:
            # mitmproxy tells those in its queue for an HTTP/2 stream nothing of it, and nobody
            # when the connection's handler is cancelled while it waits for its turn.
            yield from self._upstream_lost("the connection was lost")
        elif limit is not None and self.silent >= limit:
            yield from self._upstream_lost(f"nothing came for {limit} s", timed_out=True)
        elif exchange.beats and self.quiet >= exchange.heartbeat_s:
            self.quiet = 0
            if self.opened or (yield from self._open(exchange)):
                yield from self._emit(exchange.heartbeat())

    def _silence_limit(self, exchange: Exchange) -> int | None:
        """Ticks of silence that the present state allows; None: any."""
        state = self.server_state
        if state == self.state_connecting:
            return min(CONNECT_TIMEOUT_TICKS, exchange.timeout_s)
        if state == self.state_refused:
            return DRAIN_LIMIT_TICKS
        if state == self.state_last_bytes:
            return 1
        if exchange.ending:
            return min(LAST_WORD_TICKS, exchange.timeout_s)
        return None if state == self.state_waiting else exchange.timeout_s

    def _woken(self, event: events.Wakeup) -> Commands:
        if event.command is self.wakeup and self.exchange:
            self.wakeup = None
            yield from self._next_attempt(self.exchange)


def nothing() -> Commands:
    yield from ()


def _fault() -> TranslationFault:
    return TranslationFault(
        "qwen-mitm could not handle this request because of a bug of its own; nothing was sent "
        "upstream. The log of mitmproxy has the details; please report it."
    )


def refusal(error: BridgeError) -> Answer:
    """A client's answer that is an error of ours or of the upstream."""
    headers = {"content-type": "application/json", **error.headers}
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Answer(error.status, tuple(fields), error.body())
