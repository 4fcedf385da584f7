"""A bare HTTP/1.1 upstream that does what no simulator of an API would."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}\n\n'
)
STREAM = _CHUNK + b"data: [DONE]\n\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (
    len(STREAM),
    STREAM,
)

type Behaviour = Callable[[int, int], bytes | None]
"""Connection and request on it, both from 0, to the answer; None closes without one."""


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class FlakyUpstream:
    """Listens on a port until the end of the ``with``; each connection has a thread."""

    def __init__(self, port: int, behaviour: Behaviour) -> None:
        self.accepted = 0
        self.requests = 0
        self._behaviour = behaviour
        self._server = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._open:
            # A mere close would not wake the thread that reads.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            connection.settimeout(20)
            number, self.accepted = self.accepted, self.accepted + 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            request = 0
            while self._receive(connection):
                self.requests += 1
                answer = self._behaviour(number, request)
                request += 1
                if answer is None:
                    return
                connection.sendall(answer)

    def _receive(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := self._read(connection)):
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        announced = head.lower().partition(b"content-length:")[2].split()
        length = int(announced[0]) if announced else 0
        while len(body) < length:
            if not (piece := self._read(connection)):
                return False
            body += piece
        return True

    def _read(self, connection: socket.socket) -> bytes:
        try:
            return connection.recv(65_536)
        except OSError:
            return b""
