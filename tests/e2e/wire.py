"""A client whose protocol is certain: one connection through a proxy's tunnel, read by hand."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.e2e.proxy import Proxy
from tests.layer_driver import Version
from tests.layer_peers import Answer, Fields, Http1Peer, Http2Peer

CLIENT_KEY = "fake-client-key"
HOST = "portal.qwen.ai"
COMMENT = b": keep-alive\n\n"

_PATIENCE_S = 15.0


class Wire:
    """One TLS connection to the claimed host, over HTTP/1.1 or HTTP/2.

    The proxy offers its upstream what the client offered to it; ``offers`` says what.
    """

    def __init__(
        self,
        proxy: Proxy,
        version: Version,
        *,
        host: str = HOST,
        offers: Sequence[str] | None = None,
    ) -> None:
        self.host = host
        self._peer = Http2Peer(tunnel=True) if version == "h2" else Http1Peer(tunnel=True)
        tcp = socket.create_connection(("127.0.0.1", proxy.port), timeout=_PATIENCE_S)
        try:
            tcp.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += tcp.recv(1)
            assert head.startswith(b"HTTP/1.1 200"), head
            context = ssl.create_default_context(cafile=proxy.ca)
            # mitmproxy takes the first one that it knows.
            context.set_alpn_protocols(
                list(offers or (["h2"] if version == "h2" else ["http/1.1", "h2"]))
            )
            self._tls = context.wrap_socket(tcp, server_hostname=host)
        except BaseException:
            tcp.close()
            raise
        chosen = self._tls.selected_alpn_protocol()
        assert (chosen == "h2") == (version == "h2"), chosen
        if isinstance(self._peer, Http2Peer):
            # Its SETTINGS come first; until then the window for bodies is small.
            self._flush()
            self._peer.receive(self._tls.recv(65_536))
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._tls.close()

    def post(
        self,
        document: Mapping[str, Any] | bytes,
        path: str = "/v1/responses",
        fields: Fields = (),
    ) -> Answer:
        """Send a request; the answer fills while something is awaited."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        own = [
            ("authorization", f"Bearer {CLIENT_KEY}"),
            ("content-type", "application/json"),
            *fields,
        ]
        answer = self._peer.request("POST", self.host, path, body, own)
        self._flush()
        return answer

    def ask(self, model: str = "qwen3-coder-plus", **extra: Any) -> Answer:
        """Send an ordinary streaming request."""
        return self.post({"model": model, "input": "hello", "stream": True, **extra})

    def leave(self, answer: Answer) -> None:
        """Give up one request: over HTTP/1.1 that takes the connection."""
        if isinstance(self._peer, Http2Peer):
            self._peer.reset(answer)
            self._flush()
        else:
            self.close()

    def wait(self, until: Callable[[], bool], timeout_s: float = _PATIENCE_S) -> None:
        """Read until something holds; raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not until():
            self._tls.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._tls.recv(65_536)
            except ssl.SSLEOFError:
                data = b""
            except ConnectionResetError:
                data = b""
            if not data:
                self._peer.proxy_closed()
                assert until(), "the proxy closed the connection"
                return
            self._peer.receive(data)
            self._flush()

    def finish(self, answer: Answer, timeout_s: float = _PATIENCE_S) -> Answer:
        """Wait for the end of an answer."""
        self.wait(lambda: answer.ended or answer.broken, timeout_s)
        return answer

    def see(self, answer: Answer, text: str, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until an answer contains this."""
        wanted = text.encode()
        self.wait(lambda: wanted in answer.body, timeout_s)

    def beats(self, answer: Answer, count: int) -> None:
        """Wait until an answer contains so many heartbeats."""
        self.wait(lambda: answer.body.count(COMMENT) >= count)

    def _flush(self) -> None:
        if data := self._peer.data_to_send():
            self._tls.settimeout(_PATIENCE_S)
            self._tls.sendall(data)
