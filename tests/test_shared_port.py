from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ServerInstance
from mitmproxy.test import taddons

from qwen_mitm.failover_layer.listening import share_ports
from qwen_mitm.shared_port import HAVE_SOCKETS_OF_THEIR_OWN, kept_port

linux = pytest.mark.skipif(
    not HAVE_SOCKETS_OF_THEIR_OWN, reason="sockets that share a port share its connections on Linux"
)


@pytest.fixture(autouse=True)
def stock_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncioServerInstance, "listen", AsyncioServerInstance.listen)


async def addresses_of_two(port: int, mode: str = "regular") -> list[tuple[object, ...]]:
    with taddons.context():
        spec = f"{mode}@127.0.0.1:{port}"
        servers: list[ServerInstance[Any]] = [
            ServerInstance.make(spec, Proxyserver()) for _ in range(2)
        ]
        try:
            for server in servers:
                await server.start()
            return [server.listen_addrs for server in servers]
        finally:
            for server in servers:
                if server.is_running:
                    await server.stop()


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_a_stock_mitmproxy_wants_the_port_for_itself(unused_port: int) -> None:
    with pytest.raises(OSError, match="failed to listen"):
        await addresses_of_two(unused_port)


@linux
@pytest.mark.parametrize("mode", ["regular", "reverse:https://host.test"])
async def test_servers_with_sockets_of_their_own_listen_at_one_port(mode: str) -> None:
    with kept_port(0) as port:
        share_ports()
        assert await addresses_of_two(port.number, mode) == [(("127.0.0.1", port.number),)] * 2


async def test_servers_that_are_handed_a_socket_listen_at_it() -> None:
    with kept_port(0, own_sockets=False) as port:
        assert port.listener is not None
        with socket.socket(fileno=os.dup(port.listener)) as inherited:
            share_ports(inherited)
            assert await addresses_of_two(port.number) == [(("127.0.0.1", port.number),)] * 2


@linux
def test_a_port_is_kept_from_those_who_do_not_share_it_and_takes_no_connection() -> None:
    with kept_port(0) as port:
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port.number))
        with socket.socket() as caller:
            assert caller.connect_ex(("127.0.0.1", port.number)) != 0


@pytest.mark.parametrize("own_sockets", [pytest.param(True, marks=linux), False])
def test_a_port_that_somebody_has_cannot_be_kept(own_sockets: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match="in use"),
            kept_port(wanted, own_sockets=own_sockets),
        ):
            pass
