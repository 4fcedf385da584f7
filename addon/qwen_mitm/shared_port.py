"""mitmdump at a port that several processes listen at: ``python -m qwen_mitm.shared_port -p 8080``.

The arguments are mitmdump's.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from qwen_mitm.reports import LISTENER_VARIABLE, WORKER_VARIABLE

#: macOS and the BSDs know SO_REUSEPORT, too, but give all connections to one of the sockets.
HAVE_SOCKETS_OF_THEIR_OWN: Final = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class SharedPort:
    """A port that is kept for the processes that are to share it."""

    number: int
    listener: int | None
    """The descriptor of the one socket for all; None: each opens its own."""


@contextmanager
def kept_port(
    wanted: int, *, own_sockets: bool = HAVE_SOCKETS_OF_THEIR_OWN
) -> Iterator[SharedPort]:
    """This port of loopback, or a free one for 0, as long as the block lasts.

    Raises:
        OSError: somebody has it.
    """
    address = ("127.0.0.1", wanted)
    if not own_sockets:
        with socket.create_server(address) as listener:
            yield SharedPort(listener.getsockname()[1], listener.fileno())
        return
    with socket.socket() as keeper:
        # It does not listen, so the kernel gives it no connection.
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            keeper.bind(address)
        except OSError:
            # Connections of a server that has ended may linger. This keeps the port less well: from
            # those who would listen, but only while a worker does.
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(address)
        yield SharedPort(keeper.getsockname()[1], None)


def main() -> None:
    """mitmdump, at a port that is shared; ends the process where that cannot be."""
    # Whoever keeps a port does not need mitmproxy.
    from mitmproxy.tools.main import mitmdump

    from qwen_mitm.failover_layer.listening import share_ports

    # Who starts them one by one need not number them.
    os.environ.setdefault(WORKER_VARIABLE, "1/1")
    descriptor = os.environ.pop(LISTENER_VARIABLE, "")
    if descriptor:
        share_ports(socket.socket(fileno=int(descriptor)))
    elif HAVE_SOCKETS_OF_THEIR_OWN:
        share_ports()
    else:
        sys.exit("Only on Linux do processes that are started one by one share a port.")
    mitmdump()


if __name__ == "__main__":
    main()
