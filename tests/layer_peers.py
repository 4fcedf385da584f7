"""Both peers of a LayerDriver; h11 and h2 refuse whatever breaks the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import h11
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events


class Proxy(Protocol):
    """The driver, as the upstream sees it."""

    attempts: list[Attempt]
    max_streams: int

    def feed(self, event: events.Event) -> None: ...

    def later(self, event: events.Event) -> None: ...


@dataclass(slots=True, eq=False)
class Answer:
    """What the client got for one request."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    broken: bool = False
    informed: list[int] = field(default_factory=list)

    @property
    def begun(self) -> bool:
        return self.status is not None


@dataclass(slots=True, eq=False)
class Attempt:
    """A request as the upstream got it."""

    upstream: Upstream
    stream_id: int
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = False
    cancelled: bool = False
    answered: bool = False

    def head(self, status: int = 200, *, end: bool = False, **headers: str) -> None:
        self.answered = end
        self.upstream.head(self, status, headers, end=end)

    def data(self, data: bytes) -> None:
        self.upstream.data(self, data)

    def end(self) -> None:
        self.answered = True
        self.upstream.end(self)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.upstream.head(self, status, headers, end=False)
        self.data(body)
        self.end()


class Upstream:
    """The upstream's end of one connection."""

    def __init__(self, driver: Proxy, connection: Server) -> None:
        self.driver = driver
        self.connection = connection
        self.attempts: list[Attempt] = []
        self._batch: bytearray | None = None

    @property
    def closed(self) -> bool:
        """The proxy has closed the connection."""
        return not self.connection.connected

    def receive(self, data: bytes) -> None:
        raise NotImplementedError

    def head(self, attempt: Attempt, status: int, headers: dict[str, str], *, end: bool) -> None:
        raise NotImplementedError

    def data(self, attempt: Attempt, data: bytes) -> None:
        raise NotImplementedError

    def end(self, attempt: Attempt) -> None:
        raise NotImplementedError

    def proxy_closed(self) -> None:
        for attempt in self.attempts:
            attempt.cancelled = attempt.cancelled or not attempt.answered

    def lose(self) -> None:
        """The peer closes, or the network does."""
        if self.closed:
            return
        self.connection.state &= ~ConnectionState.CAN_READ
        self.driver.feed(events.ConnectionClosed(self.connection))

    def send(self, data: bytes) -> None:
        """Raw bytes to the proxy."""
        if self._batch is not None:
            self._batch += data
        elif data and not self.closed:
            self.driver.feed(events.DataReceived(self.connection, data))

    def in_one_piece(self, act: Callable[[], None]) -> None:
        """All that is sent meanwhile arrives in one segment."""
        self._batch = bytearray()
        act()
        data, self._batch = bytes(self._batch), None
        self.send(data)


class Http1Upstream(Upstream):
    def __init__(self, driver: Proxy, connection: Server) -> None:
        super().__init__(driver, connection)
        self.protocol = h11.Connection(h11.SERVER)

    def receive(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        while True:
            if self.protocol.our_state is self.protocol.their_state is h11.DONE:
                self.protocol.start_next_cycle()
            event = self.protocol.next_event()
            match event:
                case h11.Request():
                    headers = {k.decode(): v.decode() for k, v in event.headers}
                    headers[":path"] = event.target.decode()
                    self.attempts.append(Attempt(self, 0, headers))
                    self.driver.attempts.append(self.attempts[-1])
                case h11.Data():
                    self.attempts[-1].body += bytes(event.data)
                case h11.EndOfMessage():
                    self.attempts[-1].complete = True
                case _:
                    return

    def head(self, attempt: Attempt, status: int, headers: dict[str, str], *, end: bool) -> None:
        fields = [(k.replace("_", "-"), v) for k, v in headers.items()]
        if end:
            fields.append(("content-length", "0"))
        elif "content_length" not in headers:
            fields.append(("transfer-encoding", "chunked"))
        self._emit(h11.Response(status_code=status, headers=fields))
        if end:
            self.end(attempt)

    def data(self, attempt: Attempt, data: bytes) -> None:
        self._emit(h11.Data(data=data))

    def end(self, attempt: Attempt) -> None:
        self._emit(h11.EndOfMessage())

    def _emit(self, event: h11.Event) -> None:
        self.send(self.protocol.send(event) or b"")


class Http2Upstream(Upstream):
    def __init__(self, driver: Proxy, connection: Server) -> None:
        super().__init__(driver, connection)
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.protocol = h2.connection.H2Connection(config)
        self.protocol.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: driver.max_streams,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**20,
            },
        )
        self.protocol.initiate_connection()
        driver.later(events.DataReceived(connection, self.protocol.data_to_send()))

    def receive(self, data: bytes) -> None:
        for event in self.protocol.receive_data(data):
            match event:
                case h2.events.RequestReceived(stream_id=int(stream_id)):
                    headers = {str(k): str(v) for k, v in event.headers or []}
                    self.attempts.append(Attempt(self, stream_id, headers))
                    self.driver.attempts.append(self.attempts[-1])
                case h2.events.DataReceived(stream_id=int(stream_id)):
                    self._attempt(stream_id).body += event.data or b""
                case h2.events.StreamEnded(stream_id=int(stream_id)):
                    self._attempt(stream_id).complete = True
                case h2.events.StreamReset(stream_id=int(stream_id)):
                    self._attempt(stream_id).cancelled = True
        if answer := self.protocol.data_to_send():
            self.driver.later(events.DataReceived(self.connection, answer))

    def _attempt(self, stream_id: int) -> Attempt:
        return next(a for a in self.attempts if a.stream_id == stream_id)

    def head(self, attempt: Attempt, status: int, headers: dict[str, str], *, end: bool) -> None:
        fields = [(k.replace("_", "-"), v) for k, v in headers.items()]
        self.protocol.send_headers(
            attempt.stream_id, [(":status", str(status)), *fields], end_stream=end
        )
        self.flush()

    def data(self, attempt: Attempt, data: bytes) -> None:
        for start in range(0, len(data), 16_000) or [0]:
            self.protocol.send_data(attempt.stream_id, data[start : start + 16_000])
        self.flush()

    def end(self, attempt: Attempt) -> None:
        self.protocol.end_stream(attempt.stream_id)
        self.flush()

    def reset(self, attempt: Attempt) -> None:
        self.protocol.reset_stream(attempt.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self.flush()

    def flush(self) -> None:
        self.send(self.protocol.data_to_send())


type Fields = Sequence[tuple[str, str]]


class Http1Peer:
    """A client that speaks HTTP/1.1 to its proxy, or through a tunnel."""

    def __init__(self, *, tunnel: bool = False) -> None:
        self.tunnel = tunnel
        self.protocol = h11.Connection(h11.CLIENT)
        self.answer = Answer()
        self._out = b""

    def request(
        self,
        method: str,
        host: str,
        path: str,
        body: bytes,
        fields: Fields = (),
        *,
        version: str = "1.1",
    ) -> Answer:
        if self.protocol.our_state is h11.DONE:
            self.protocol.start_next_cycle()
        self.answer = Answer()
        target = path if self.tunnel else f"http://{host}{path}"
        fields = [("host", host), *fields]
        if ("transfer-encoding", "chunked") not in fields:
            fields.append(("content-length", str(len(body))))
        head = h11.Request(method=method, target=target, headers=fields)
        raw = self.protocol.send(head) or b""
        self._out += raw.replace(b"HTTP/1.1", f"HTTP/{version}".encode())
        if body:
            self._out += self.protocol.send(h11.Data(data=body)) or b""
        self._out += self.protocol.send(h11.EndOfMessage()) or b""
        return self.answer

    def data_to_send(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def receive(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        self._read()

    def _read(self) -> None:
        while True:
            event = self.protocol.next_event()
            match event:
                case h11.InformationalResponse():
                    self.answer.informed.append(event.status_code)
                case h11.Response():
                    self.answer.status = event.status_code
                    self.answer.headers = {k.decode(): v.decode() for k, v in event.headers}
                case h11.Data():
                    self.answer.body += bytes(event.data)
                case h11.EndOfMessage():
                    self.answer.ended = True
                case _:
                    return

    def proxy_closed(self) -> None:
        try:
            self.protocol.receive_data(b"")
            self._read()
        except h11.RemoteProtocolError:
            self.answer.broken = True
        self.answer.broken = not self.answer.ended


class Http2Peer:
    """A client that speaks HTTP/2 to its proxy, or through a tunnel."""

    def __init__(self, *, tunnel: bool = False) -> None:
        self.scheme = "https" if tunnel else "http"
        self.protocol = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self.protocol.initiate_connection()
        self.protocol.increment_flow_control_window(2**30)
        self.answers: dict[int, Answer] = {}

    def request(
        self,
        method: str,
        host: str,
        path: str,
        body: bytes,
        fields: Fields = (),
        *,
        version: str = "2",
    ) -> Answer:
        stream_id = self.protocol.get_next_available_stream_id()
        pseudo = {":method": method, ":scheme": self.scheme, ":authority": host, ":path": path}
        length = ("content-length", str(len(body)))
        self.protocol.send_headers(
            stream_id, [*pseudo.items(), *fields, length], end_stream=not body
        )
        for start in range(0, len(body), 16_000):
            self.protocol.send_data(stream_id, body[start : start + 16_000])
        if body:
            self.protocol.end_stream(stream_id)
        return self.answers.setdefault(stream_id, Answer())

    def reset(self, answer: Answer) -> None:
        (stream_id,) = (i for i, other in self.answers.items() if other is answer)
        self.protocol.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)

    def data_to_send(self) -> bytes:
        return self.protocol.data_to_send()

    def receive(self, data: bytes) -> None:
        for event in self.protocol.receive_data(data):
            match event:
                case h2.events.ResponseReceived(stream_id=int(stream_id)):
                    headers = {str(k): str(v) for k, v in event.headers or []}
                    self.answers[stream_id].status = int(headers.pop(":status"))
                    self.answers[stream_id].headers = headers
                case h2.events.DataReceived(stream_id=int(stream_id)):
                    self.answers[stream_id].body += event.data or b""
                    length = event.flow_controlled_length or 0
                    self.protocol.acknowledge_received_data(length, stream_id)
                case h2.events.StreamEnded(stream_id=int(stream_id)):
                    self.answers[stream_id].ended = True
                case h2.events.StreamReset(stream_id=int(stream_id)):
                    self.answers[stream_id].broken = True

    def proxy_closed(self) -> None:
        for answer in self.answers.values():
            answer.broken = not answer.ended
