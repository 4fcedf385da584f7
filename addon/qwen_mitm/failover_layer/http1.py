"""HTTP/1.1 connections with better manners than mitmproxy's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from h11 import Data, EndOfMessage, ProtocolError
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import HttpEvent
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

from .websocket import Socket, Upgraded

type Commands = layer.CommandGenerator[None]

_NOT_HELD = object()


class PatientHttp1(Http1Connection):
    """Survives trailers, for which the stock connection raises NotImplementedError.

    The peer would wait for ever. https://github.com/mitmproxy/mitmproxy/issues/2474
    """

    @property
    def body_reader(self) -> Any:
        return self._body_reader

    @body_reader.setter
    def body_reader(self, reader: Any) -> None:
        self._body_reader = BodyReader(reader)


class PatientHttp1Server(PatientHttp1, Http1Server):
    """The client's connection, until it becomes a WebSocket."""

    def send(self, event: HttpEvent) -> Commands:
        if isinstance(event, Upgraded):
            return self._become_socket(event)
        stock: Commands = super().send(event)
        return stock

    def _become_socket(self, upgraded: Upgraded) -> Commands:
        self.__class__ = Socket  # type: ignore[assignment]  # what is sent next is for a Socket
        assert isinstance(self, Socket)
        yield from self.begin(upgraded)


class PatientHttp1Client(PatientHttp1, Http1Client):
    """An upstream's connection. The stock one takes a 103 for the answer."""

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if isinstance(event, events.DataReceived):
            skip_informational(self.buf)
        yield from super().read_headers(event)


@dataclass(slots=True)
class BodyReader:
    """A body reader of h11 that hands on what one read brought in one piece, and no trailers.

    mitmproxy pays for each HTTP chunk; joined, they cost one pass through its layers, one write and
    one TLS record. Nothing waits for bytes that are not there yet.
    """

    reader: Any
    held: Any = _NOT_HELD

    def __call__(self, buffer: Any) -> Any:
        held, self.held = self.held, _NOT_HELD
        if isinstance(held, ProtocolError):
            raise held
        event = self._next(buffer) if held is _NOT_HELD else held
        if not isinstance(event, Data):
            return event
        pieces = [event.data]
        try:
            while isinstance(after := self._next(buffer), Data):
                pieces.append(after.data)
        except ProtocolError as error:
            # What came before it is good.
            after = error
        self.held = after
        return event if len(pieces) == 1 else Data(data=b"".join(pieces))

    def _next(self, buffer: Any) -> Any:
        event = self.reader(buffer)
        return EndOfMessage() if isinstance(event, EndOfMessage) else event

    def read_eof(self) -> Any:
        return self.reader.read_eof()


_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d\b")


def skip_informational(buffer: ReceiveBuffer) -> None:
    """Take complete 1xx heads (not 101) off the front of a connection's buffer."""
    while _INFORMATIONAL.match(head := bytes(buffer)):
        end = head.find(b"\r\n\r\n")
        if end < 0:
            return
        buffer.maybe_extract_at_most(end + 4)
