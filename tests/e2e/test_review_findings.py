"""Faults that a review with fresh eyes found; each stays here so that it cannot come back."""

import json
import socket
import ssl
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.conftest import FAKE_KEY, StartProxy, account_of, trust
from tests.e2e.proxy import Proxy, ProxyDidNotStart

REQUEST = {"model": "qwen3-coder-plus", "input": "hello", "stream": True}


def raw_exchange(proxy: Proxy, request: bytes) -> bytes:
    """What a reverse proxy answers to these bytes, until it closes or the answer is whole."""
    with closing(socket.create_connection(("127.0.0.1", proxy.port), 10)) as connection:
        connection.settimeout(10)
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = connection.recv(65536)
            if not data:
                break
            answer += data
        return answer


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("qwen_quiet_mode", "True"),
        ("qwen_heartbeat_seconds", "abc"),
        ("qwen_max_body_mb", "1.5"),
        ("qwen_allow_insecure", "yes"),
        ("qwen_rotation_strategy", "random"),
        ("qwen_hosts", "*"),
    ],
)
def test_a_value_of_the_wrong_type_ends_the_start_and_is_named(
    start_proxy: StartProxy, simulator: SimulatorProcess, option: str, value: str
) -> None:
    with pytest.raises(ProxyDidNotStart, match=option):
        start_proxy(options={option: value}, env=account_of(simulator)).wait()


@pytest.mark.parametrize("option", ["allow_hosts", "ignore_hosts"])
def test_mitmproxys_own_lists_cannot_take_a_claimed_host_away(
    start_proxy: StartProxy, simulator: SimulatorProcess, option: str
) -> None:
    pattern = r"^other\.test" if option == "allow_hosts" else r"qwen\.ai"
    with pytest.raises(ProxyDidNotStart, match=option):
        start_proxy(options={option: pattern}, env=account_of(simulator)).wait()


def test_an_account_that_points_at_the_proxy_itself_is_refused(start_proxy: StartProxy) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    proxy = start_proxy(
        mode=f"reverse:https://portal.qwen.ai@127.0.0.1:{port}",
        env={"QWEN_API_KEY": FAKE_KEY, "QWEN_API_BASE_URL": f"http://127.0.0.1:{port}/v1"},
    )
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"{proxy.url}/v1/models")
    assert answer.status_code == 400
    assert "this proxy itself" in answer.json()["error"]["message"]


def test_a_key_that_the_upstream_quotes_in_mid_stream_does_not_reach_the_client(
    reverse_proxy: Proxy, simulator: SimulatorProcess
) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
    error = {"error": {"message": f"bad key {FAKE_KEY}", "code": FAKE_KEY}}
    frames = [f"data: {json.dumps(each)}\n\n" for each in (chunk, error)]
    simulator.script([{"frames": frames}])
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{reverse_proxy.url}/v1/responses", json=REQUEST)
    assert "response.failed" in answer.text
    assert FAKE_KEY not in answer.text


def test_a_key_that_is_quoted_on_another_path_does_not_reach_the_client(
    reverse_proxy: Proxy, simulator: SimulatorProcess
) -> None:
    simulator.script([{"status": 401, "body": json.dumps({"error": f"no such key {FAKE_KEY}"})}])
    with httpx.Client(trust_env=False) as client:
        answer = client.post(
            f"{reverse_proxy.url}/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        )
    assert answer.status_code == 401
    assert FAKE_KEY not in answer.text
    assert "no such key" in answer.text


def test_another_path_moves_on_to_the_account_that_works(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    folder = tmp_path / ".config" / "opencode"
    folder.mkdir(parents=True)
    keys = {"bad": "fake-bad-account-key", "good": "fake-good-account-key"}
    accounts = [
        {"name": name, "apiKey": key, "baseUrl": simulator.base_url} for name, key in keys.items()
    ]
    document = json.dumps({"version": 1, "accounts": accounts})
    (folder / "qwen-auth-accounts.json").write_text(document)
    simulator.accounts({keys["good"]: "good"})
    proxy = start_proxy(mode="reverse:https://portal.qwen.ai", options=trust(simulator))
    with httpx.Client(trust_env=False) as client:
        statuses = [client.get(f"{proxy.url}/v1/models").status_code for _ in range(4)]
    simulator.accounts({})
    assert statuses == [200] * 4


def test_trailers_of_the_clients_request_do_no_harm(
    reverse_proxy: Proxy, simulator: SimulatorProcess
) -> None:
    body = json.dumps({**REQUEST, "stream": False}).encode()
    answer = raw_exchange(
        reverse_proxy,
        b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body),
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert "crashed" not in reverse_proxy.log


def test_a_client_that_waits_for_100_continue_learns_that_its_body_is_too_large(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(
        mode="reverse:https://portal.qwen.ai",
        env=account_of(simulator),
        options={**trust(simulator), "qwen_max_body_mb": "1"},
    )
    with closing(socket.create_connection(("127.0.0.1", proxy.port), 10)) as connection:
        connection.settimeout(10)
        connection.sendall(
            b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"x" * 2_000_000)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_page_on_another_site_cannot_use_the_account(
    reverse_proxy: Proxy, simulator: SimulatorProcess
) -> None:
    with httpx.Client(trust_env=False) as client:
        answer = client.get(
            f"{reverse_proxy.url}/v1/models", headers={"sec-fetch-site": "cross-site"}
        )
    assert answer.status_code == 401
    assert simulator.requests() == []


def test_socks_clients_see_the_real_certificate_of_other_hosts(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(mode="socks5", env=account_of(simulator))
    verify = ssl.create_default_context(cafile=simulator.ca_pem)
    with closing(socket.create_connection(("127.0.0.1", proxy.port), 10)) as connection:
        connection.settimeout(10)
        connection.sendall(b"\x05\x01\x00")
        assert connection.recv(2) == b"\x05\x00"
        address = b"\x7f\x00\x00\x01" + simulator.port.to_bytes(2, "big")
        connection.sendall(b"\x05\x01\x00\x01" + address)
        assert connection.recv(100)[1] == 0
        with verify.wrap_socket(connection, server_hostname="127.0.0.1") as tls:
            assert tls.getpeercert()
