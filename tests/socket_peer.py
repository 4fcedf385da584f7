"""A WebSocket client for a LayerDriver; wsproto refuses whatever breaks the rules."""

from __future__ import annotations

import json
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import events
from pydantic import JsonValue
from wsproto import ConnectionType
from wsproto import connection as wsproto_connection
from wsproto import events as frames
from wsproto.utilities import generate_accept_token

from tests.layer_driver import CLAIMED_HOST, FakeGateway, LayerDriver, Version
from tests.layer_exchanges import FakeExchange
from tests.layer_peers import Http1Peer

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    f"GET http://{CLAIMED_HOST}/v1/responses?x=1 HTTP/1.1\r\nhost: {CLAIMED_HOST}\r\n"
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    f"sec-websocket-key: {KEY}\r\nsec-websocket-extensions: permessage-deflate\r\n"
    "user-agent: program/1\r\n\r\n"
).encode()


def accept(flow: http.HTTPFlow) -> None:
    """What the addon does about an upgrade."""
    if flow.request.method == "GET":
        flow.response = http.Response.make(101)
        del flow.response.headers["content-length"]
        flow.response.headers["connection"] = "Upgrade"
        flow.response.headers["upgrade"] = "websocket"
        token = generate_accept_token(KEY.encode()).decode()
        flow.response.headers["sec-websocket-accept"] = token


def event(**fields: JsonValue) -> bytes:
    return b"event: x\ndata: %b\n\n" % json.dumps(fields).encode()


class SocketExchange(FakeExchange):
    """Passes the upstream's events on; each answer ends with an event of type ``end``."""

    def feed(self, data: bytes) -> bytes:
        before, done, _ = data.partition(b"DONE")
        self.finished = self.finished or bool(done)
        return before

    def end(self) -> bytes:
        return event(type="end")

    def broken(self, outcome: object) -> bytes:
        return event(type="broken")

    def fail(self, error: object) -> bytes:
        return event(type="failed")

    def heartbeat(self) -> bytes:
        return b": keep-alive\n\n"


class SocketPeer(Http1Peer):
    """Reads the 101, then frames."""

    def __init__(self) -> None:
        super().__init__()
        self.head = b""
        self.ws = wsproto_connection.Connection(ConnectionType.CLIENT)
        self.messages: list[dict[str, Any]] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.close: frames.CloseConnection | None = None
        self.gone = False
        self.answers_pings = True
        self._out = b""

    def receive(self, data: bytes) -> None:
        if not self.head.endswith(b"\r\n\r\n"):
            head, end, data = (self.head + data).partition(b"\r\n\r\n")
            self.head = head + end
        if not data:
            return
        self.ws.receive_data(data)
        for frame in self.ws.events():
            match frame:
                case frames.TextMessage(data=text):
                    assert frame.frame_finished
                    assert frame.message_finished
                    self.messages.append(json.loads(text))
                case frames.Ping():
                    self.pings += 1
                    if self.answers_pings:
                        self._out += self.ws.send(frame.response())
                case frames.Pong(payload=payload):
                    self.pongs.append(bytes(payload))
                case frames.CloseConnection():
                    self.close = frame
                case _:
                    raise AssertionError(frame)

    def take(self) -> list[dict[str, Any]]:
        """The messages since the last time."""
        messages, self.messages = self.messages, []
        return messages

    def proxy_closed(self) -> None:
        self.gone = True


class SocketDriver(LayerDriver):
    """A LayerDriver whose client has asked for a WebSocket."""

    def __init__(
        self,
        *exchanges: FakeExchange,
        upstream: Version = "h1",
        body_limit: int = 1_000_000,
        early: bytes = b"",
    ) -> None:
        self.gateway = FakeGateway(*exchanges, body_limit=body_limit)
        super().__init__(self.gateway, "h1", upstream)
        self.peer = self.socket = SocketPeer()
        self.flows: dict[str, list[http.HTTPFlow]] = {}
        self.on_hook["request"] = accept
        for hook in ("requestheaders", "response", "error", "websocket_start", "websocket_end"):
            self.on_hook[hook] = self.flows.setdefault(hook, []).append
        self.feed(events.DataReceived(self.client, UPGRADE + early))

    def frames(self, *sent: frames.Event) -> None:
        self.feed(events.DataReceived(self.client, b"".join(map(self.socket.ws.send, sent))))

    def say(self, message: JsonValue) -> None:
        self.frames(frames.TextMessage(json.dumps(message)))

    def create(self, **fields: JsonValue) -> None:
        self.say({"type": "response.create", **fields})
