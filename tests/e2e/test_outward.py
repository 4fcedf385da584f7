"""A network that is left through a proxy of its own, with an authority of its own."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import AccountsOfTest, accounts_of, ask, chats, log_of, served
from tests.e2e.clients import Way, error_of, final
from tests.e2e.conftest import StartProxy
from tests.e2e.proxy import Proxy

#: Resolved by the network's proxy alone, as in many companies.
HOST = "coding.dashscope.aliyuncs.com"
OTHER = "dashscope.aliyuncs.com"
LOGIN = "user:fake-proxy-password"


class Gate:
    """The network's proxy: CONNECT with a password, and every name leads to one port here."""

    def __init__(self, target: int) -> None:
        self.asked: list[str] = []
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{LOGIN}@127.0.0.1:{self.port}"

    def close(self) -> None:
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (byte := client.recv(1)):
                    return
                head += byte
            login = base64.b64encode(LOGIN.encode())
            if b"basic " + login.lower() not in head.lower():
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                client.close()
                return
            self.asked.append(head.split()[1].decode())
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            _pump(client, server)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


@pytest.fixture
def gate(simulator: SimulatorProcess) -> Iterator[Gate]:
    opened = Gate(simulator.port)
    yield opened
    opened.close()


def start(
    start_proxy: StartProxy, accounts: AccountsOfTest, mode: str | None = None, **env: str
) -> Proxy:
    """A proxy that is told of the network by its environment alone."""
    ca = str(accounts.simulator.ca_pem)
    return start_proxy(env={"SSL_CERT_FILE": ca, "NO_PROXY": "", **env}, mode=mode)


@pytest.mark.parametrize("mode", [None, "reverse:https://portal.qwen.ai"])
def test_turns_leave_through_the_networks_proxy(
    start_proxy: StartProxy, accounts: AccountsOfTest, gate: Gate, mode: str | None
) -> None:
    accounts.write(accounts.key("plan", f"https://{HOST}/v1"))
    proxy = start(start_proxy, accounts, mode, HTTPS_PROXY=gate.url)
    with Way(proxy, reverse=bool(mode)).http() as http:
        for _ in range(2):
            final(ask(http))
    assert served(accounts.simulator) == ["plan", "plan"]
    assert gate.asked == [f"{HOST}:443"]
    assert f"through 127.0.0.1:{gate.port} (HTTPS_PROXY)" in log_of(proxy)
    assert "also trust 1 authorities of SSL_CERT_FILE" in proxy.log
    assert "fake-proxy-password" not in proxy.log


def test_each_attempt_goes_the_way_of_its_own_host(
    start_proxy: StartProxy, accounts: AccountsOfTest, gate: Gate
) -> None:
    simulator = accounts.simulator
    far, here = accounts.key("far", f"https://{HOST}/v1"), accounts.key("here")
    for order in ([far, here], [here, far]):
        accounts.write(*order)
        simulator.reset()
        gate.asked.clear()
        first, last = (entry["name"] for entry in order)
        simulator.script([{"behaviour": "429", "bearer": f"fake-key-{first}"}])
        proxy = start(start_proxy, accounts, HTTPS_PROXY=gate.url)
        with Way(proxy).http() as http:
            # One of the two begins with the account that is limited.
            for _ in range(2):
                final(ask(http))
        assert sorted(chat["account"] for chat in chats(simulator)) == sorted([first, last, last])
        assert served(simulator) == [last, last]
        assert set(gate.asked) == {f"{HOST}:443"}
        log_of(proxy)


def test_a_token_is_refreshed_through_it_as_well(
    start_proxy: StartProxy, accounts: AccountsOfTest, gate: Gate
) -> None:
    simulator = accounts.simulator
    simulator.oauth("terms", resource_url=f"https://{HOST}/v1")
    login = accounts.oauth("work", expired=True) | {"resourceUrl": f"https://{HOST}/v1"}
    accounts.write(login)
    proxy = start(
        start_proxy,
        accounts,
        HTTPS_PROXY=gate.url,
        QWEN_OAUTH_BASE_URL="https://chat.qwen.ai",
    )
    with Way(proxy).http() as http:
        final(ask(http))
    assert gate.asked == ["chat.qwen.ai:443", f"{HOST}:443"]
    log_of(proxy)


def test_other_hosts_are_tunnelled_through_it(
    start_proxy: StartProxy, accounts: AccountsOfTest, gate: Gate
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.key("plan", f"https://{HOST}/v1"))
    proxy = start(start_proxy, accounts, HTTPS_PROXY=gate.url)
    # The simulator's own certificate: nothing is decrypted on the way.
    verify = ssl.create_default_context(cafile=simulator.ca_pem)
    with httpx.Client(proxy=proxy.url, verify=verify, trust_env=False) as http:
        assert http.get(f"https://{OTHER}/v1/models").status_code < 500
    assert gate.asked == [f"{OTHER}:443"]
    log_of(proxy)


def test_hosts_of_no_proxy_are_not_asked_for_there(
    start_proxy: StartProxy, accounts: AccountsOfTest, gate: Gate
) -> None:
    accounts.write(accounts.key("plan", f"https://{HOST}/v1"))
    proxy = start(start_proxy, accounts, HTTPS_PROXY=gate.url, NO_PROXY=f"{HOST},.{HOST}")
    with Way(proxy).http() as http:
        assert ask(http).status_code == 502
    assert gate.asked == []


def test_a_wrong_password_is_an_error_that_says_so_and_names_no_password(
    start_proxy: StartProxy, accounts: AccountsOfTest, gate: Gate
) -> None:
    accounts.write(accounts.key("plan", f"https://{HOST}/v1"))
    wrong = gate.url.replace("fake-proxy-password", "fake-wrong-password")
    proxy = start(start_proxy, accounts, HTTPS_PROXY=wrong)
    with Way(proxy).http() as http:
        error = error_of(ask(http))
    assert "407" in error["message"]
    assert "fake-wrong-password" not in proxy.log + error["message"]


def test_a_proxy_that_is_itself_is_left_out(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.key("plan"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    here = f"http://127.0.0.1:{port}"
    proxy = start_proxy(
        env={"HTTPS_PROXY": here, "SSL_CERT_FILE": str(accounts.simulator.ca_pem)},
        arguments=["-p", str(port)],
    )
    with Way(proxy).http() as http:
        final(ask(http))
    assert "is this proxy" in log_of(proxy)
