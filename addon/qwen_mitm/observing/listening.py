"""The loopback ports of the status page and of the metrics, on the event loop of the proxy."""

from __future__ import annotations

import base64
import binascii
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from qwen_mitm.exchange import Answer
from qwen_mitm.observing.page import Asked
from qwen_mitm.status import text_answer

logger = logging.getLogger(__name__)

ADDRESS: Final = "127.0.0.1"

type Respond = Callable[[Asked], Answer]
type MayPass = Callable[[str, str], bool]
"""Whether a user and a password are good."""


class Listeners:
    """One server for each port. A port that is taken costs a warning: the proxy matters more."""

    def __init__(self, respond: Respond, users: Callable[[], MayPass | None]) -> None:
        self._respond = respond
        self._users = users
        self._open: dict[int, HTTPServer] = {}
        self.ports: tuple[int, ...] = ()
        """Those that are asked for, whether they could be had or not."""

    def listen(self, ports: Iterable[int]) -> None:
        """On these from now on and on no others; 0 stands for none."""
        wanted = tuple(dict.fromkeys(port for port in ports if port))
        if wanted == self.ports:
            return
        self.ports = wanted
        for port in self._open.keys() - set(wanted):
            self._open.pop(port).stop()
        for port in wanted:
            if port not in self._open:
                self._try(port)

    def close(self) -> None:
        self.listen(())

    def _try(self, port: int) -> None:
        try:
            listening = socket.create_server((ADDRESS, port))
        except OSError as error:
            logger.warning("qwen-mitm: port %d cannot be used: %s", port, error.strerror)
            return
        # Nothing that is asked here has a body.
        server = HTTPServer(self._handle, max_body_size=1024, max_header_size=16_384)
        listening.setblocking(False)
        server.add_socket(listening)
        self._open[port] = server

    def _handle(self, request: HTTPServerRequest) -> None:
        answer = self._answer(request)
        fields = HTTPHeaders()
        for name, value in answer.fields:
            fields.add(name.decode(), value.decode())
        fields["content-length"] = str(len(answer.body))
        body = b"" if request.method == "HEAD" else answer.body
        assert request.connection
        request.connection.write_headers(ResponseStartLine("", answer.status, ""), fields, body)
        request.connection.finish()

    def _answer(self, request: HTTPServerRequest) -> Answer:
        may_pass = self._users()
        if may_pass and not _passes(request.headers.get("authorization"), may_pass):
            refused = text_answer(401, "This needs the user and password of the proxy.")
            challenge = (b"www-authenticate", b'Basic realm="qwen-mitm"')
            return Answer(refused.status, (*refused.fields, challenge), refused.body)
        return self._respond(
            Asked(
                method=request.method or "",
                path=request.path or "",
                host=request.headers.get("host", ""),
                is_local=True,
                origin=request.headers.get("origin"),
                fetch_site=request.headers.get("sec-fetch-site"),
            )
        )


def _passes(header: str | None, may_pass: MayPass) -> bool:
    scheme, _, word = (header or "").partition(" ")
    try:
        user, _, password = base64.b64decode(word, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and may_pass(user, password)
