"""How mitmproxy's servers come to listen at a port that other processes listen at, too.

mitmproxy hands neither ``reuse_port`` nor a socket to asyncio:
https://github.com/mitmproxy/mitmproxy/blob/v12.2.3/mitmproxy/proxy/mode_servers.py#L249
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from mitmproxy.proxy.mode_servers import AsyncioServerInstance


def share_ports(listener: socket.socket | None = None) -> None:
    """Let the servers that start from now on share their port.

    Without a ``listener`` each process has a socket of its own, and the kernel deals out the
    connections (SO_REUSEPORT, Linux). With one, all take theirs from it, wherever they are told to
    listen. Reverse mode does without HTTP/3, whose ports mitmproxy cannot share.
    """
    stock = AsyncioServerInstance.listen

    async def listen(self: AsyncioServerInstance[Any], host: str, port: int) -> list[Any]:
        if self.mode.transport_protocol == "udp":
            return await stock(self, host, port)
        if listener is not None:
            return [await asyncio.start_server(self.handle_stream, sock=listener.dup())]
        return [await asyncio.start_server(self.handle_stream, host, port, reuse_port=True)]

    # The classes of the modes are in a registry that takes one for each.
    AsyncioServerInstance.listen = listen  # type: ignore[method-assign]
