"""What an answer may do to the wire, the same over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import abc
import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

from .journal import ReceivedRequest

type Headers = Sequence[tuple[str, str]]

# Data is handed to the transport in pieces of at most this size, so that a client that goes away
# or a full window is noticed between them.
PIECE = 16_384


class ClientGone(Exception):
    """The client closed the connection or reset the stream."""


class Exchange(abc.ABC):
    """One request and the answer to it. Every method raises ClientGone once nobody listens."""

    def __init__(self, request: ReceivedRequest) -> None:
        self.request = request

    @abc.abstractmethod
    async def inform(self, status: int, headers: Headers) -> None:
        """Send an interim answer, such as 103."""

    @abc.abstractmethod
    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        """Send the head. ``until_close`` ends an HTTP/1.1 body by closing the connection."""

    @abc.abstractmethod
    async def send(self, data: bytes) -> None: ...

    @abc.abstractmethod
    async def end(self, trailers: Headers = ()) -> None: ...

    @abc.abstractmethod
    async def reset(self) -> None:
        """HTTP/2: reset this stream alone. HTTP/1.1: the same as abort."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection in good order, with the answer unfinished."""

    @abc.abstractmethod
    async def abort(self) -> None:
        """Drop the connection with a TCP reset."""


def drop(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset, not in good order."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


type Application = Callable[[Exchange], Awaitable[None]]
