"""Modes, accounts and destinations, through real mitmdump processes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import trustme
import zstandard

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.clients import CLIENT_KEY, Way, checked_events, error_of, final, header, text_of
from tests.e2e.conftest import FAKE_KEY, StartProxy, account_of, trust
from tests.e2e.proxy import MAIN, Proxy, ProxyDidNotStart

REVERSE = "reverse:https://portal.qwen.ai"
#: Fits into the buffers of any socket.
PIECE = 30_000
BODY = {"model": "qwen3-coder-plus", "input": "hello there"}
TEXT = "You said “hello there”. 你好 — this is the Qwen simulator, and it heard you. 👋"


@pytest.fixture(scope="module")
def plain() -> Iterator[SimulatorProcess]:
    """A simulator without TLS."""
    with SimulatorProcess("--plain") as simulator:
        yield simulator


def ask(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/responses", json=BODY | fields)


# Protocols ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("http2", [False, True])
def test_each_version_of_http_is_spoken_on_both_sides(
    proxy: Proxy, simulator: SimulatorProcess, http2: bool, stream: bool
) -> None:
    with Way(proxy).http(http2=http2) as http:
        answer = ask(http, stream=stream)

    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert text_of(final(answer)) == TEXT
    (received,) = simulator.requests(closed=1)
    assert received["http_version"] == ("2" if http2 else "1.1")
    assert received["outcome"] == "answered"


@pytest.mark.parametrize("stream", [False, True])
def test_an_http2_client_meets_an_upstream_that_speaks_http1_alone(
    start_proxy: StartProxy, simulator_http1: SimulatorProcess, stream: bool
) -> None:
    proxy = start_proxy(env=account_of(simulator_http1), options=trust(simulator_http1))
    with Way(proxy).http(http2=True) as http:
        answer = ask(http, stream=stream)

    assert answer.http_version == "HTTP/2"
    assert text_of(final(answer)) == TEXT


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "zstd", "gzip, zstd", "identity"])
def test_compressed_requests_are_understood(
    proxy: Proxy, simulator: SimulatorProcess, encoding: str, http2: bool
) -> None:
    body = json.dumps(BODY).encode()
    for coding in encoding.split(", "):
        body = CODERS[coding](body)
    with Way(proxy).http(http2=http2) as http:
        answer = http.post("/responses", content=body, headers={"content-encoding": encoding})

    assert text_of(final(answer)) == TEXT
    (received,) = simulator.requests()
    assert header(received, "content-encoding") is None


@pytest.mark.parametrize("path", ["/responses?beta=true", "/responses/", "/responses?a=b&c=d"])
def test_a_query_behind_the_path_is_tolerated(proxy: Proxy, path: str) -> None:
    with Way(proxy).http() as http:
        assert text_of(final(http.post(path, json=BODY))) == TEXT


def test_stream_large_bodies_does_not_bypass_the_rewriting(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(
        env=account_of(simulator), options=trust(simulator) | {"stream_large_bodies": "1"}
    )
    with Way(proxy).http() as http:
        answer = ask(http, stream=True)

    assert checked_events(answer)
    (received,) = simulator.requests()
    assert received["path"] == "/v1/chat/completions"
    assert header(received, "authorization") == f"Bearer {FAKE_KEY}"


# Claimed hosts -----------------------------------------------------------------------------------


def test_each_of_several_hosts_is_claimed(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    hosts = ["portal.qwen.ai", "other.example:8443", "http://127.0.0.1:18999"]
    proxy = start_proxy(env=account_of(simulator), options=trust(simulator) | {"qwen_hosts": hosts})
    urls = [
        "https://portal.qwen.ai/v1/responses",
        "https://PORTAL.qwen.ai:443/v1/responses",
        "https://portal.qwen.ai./v1/responses",
        "https://other.example:8443/v1/responses",
        "http://127.0.0.1:18999/api/deep/responses",
    ]
    with Way(proxy).http() as http:
        answers = {url: http.post(url, json=BODY) for url in urls}

    assert {url: answer.status_code for url, answer in answers.items()} == dict.fromkeys(urls, 200)
    received = simulator.requests(received=len(urls))
    # The account decides where a request goes, whatever the client was pointed at.
    assert {request["path"] for request in received} == {"/v1/chat/completions"}
    assert {header(r, "authorization") for r in received} == {f"Bearer {FAKE_KEY}"}


def test_the_same_host_at_another_port_is_not_claimed(
    start_proxy: StartProxy, plain: SimulatorProcess
) -> None:
    plain.reset()
    proxy = start_proxy(
        env=account_of(plain), options={"qwen_hosts": f"http://127.0.0.1:{plain.port + 1}"}
    )
    with Way(proxy).http() as http:
        http.post(f"{plain.url}/v1/responses", json=BODY)

    (received,) = plain.requests(received=1)
    assert received["path"] == "/v1/responses"
    assert header(received, "authorization") == f"Bearer {CLIENT_KEY}"


def test_an_account_over_plain_http_serves_clients_of_both_modes(
    start_proxy: StartProxy, plain: SimulatorProcess
) -> None:
    for way in (
        Way(start_proxy(env=account_of(plain))),
        Way(start_proxy(env=account_of(plain), mode=REVERSE), reverse=True),
    ):
        with way.http() as http:
            assert text_of(final(ask(http, stream=True))) == TEXT


def test_a_reverse_proxy_for_a_plain_host_takes_its_origin_as_claimed(
    start_proxy: StartProxy, plain: SimulatorProcess
) -> None:
    origin = f"http://127.0.0.1:{plain.port}"
    proxy = start_proxy(
        mode=f"reverse:{origin}", env=account_of(plain), options={"qwen_hosts": origin}
    )
    with Way(proxy, reverse=True).http() as http:
        assert text_of(final(ask(http))) == TEXT


# Other hosts -------------------------------------------------------------------------------------


class Stranger:
    """Another host on this machine, with a certificate of its own; it echoes what it gets."""

    def __init__(self, *, tls: bool) -> None:
        self.received = b""
        authority = trustme.CA()
        self.certificate = authority.issue_cert("127.0.0.1", "localhost", "portal.qwen.ai")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(self._context)
        self.trusting = ssl.create_default_context()
        authority.configure_trust(self.trusting)
        self._tls = tls

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                if self._tls:
                    with self._context.wrap_socket(connection, server_side=True) as encrypted:
                        self._echo(encrypted)
                else:
                    self._echo(connection)

    def _echo(self, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            self.received += data
            connection.sendall(data)


def tunnel(proxy: Proxy, port: int) -> socket.socket:
    """A CONNECT tunnel to a port of this machine."""
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    connection.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(1)
        assert data, head
        head += data
    assert head.startswith(b"HTTP/1.1 200"), head
    return connection


def exchanged(connection: socket.socket, data: bytes) -> bytes:
    """What comes back, piece for piece: a TLS socket cannot send and receive at once."""
    back = b""
    for start in range(0, len(data), PIECE):
        connection.sendall(data[start : start + PIECE])
        while len(back) < min(start + PIECE, len(data)):
            piece = connection.recv(65536)
            assert piece, "the connection ended"
            back += piece
    return back


@pytest.fixture(scope="module")
def onlooker(confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose account is never to be used."""
    environment = {"QWEN_API_KEY": FAKE_KEY, "QWEN_API_BASE_URL": "http://127.0.0.1:9/v1"}
    with Proxy(tmp_path_factory.mktemp("home"), confdir, env=environment) as proxy:
        yield proxy


def test_other_hosts_show_their_own_certificate_and_every_byte_passes(onlooker: Proxy) -> None:
    data = secrets.token_bytes(300_000)
    with Stranger(tls=True) as stranger:
        with (
            socket.create_connection(("127.0.0.1", stranger.port), timeout=10) as raw,
            stranger.trusting.wrap_socket(raw, server_hostname="localhost") as direct,
        ):
            own = direct.getpeercert(binary_form=True)
        with (
            tunnel(onlooker, stranger.port) as raw,
            stranger.trusting.wrap_socket(raw, server_hostname="localhost") as tunnelled,
        ):
            seen = tunnelled.getpeercert(binary_form=True)
            back = exchanged(tunnelled, data)

    assert own
    assert seen
    assert hashlib.sha256(seen).hexdigest() == hashlib.sha256(own).hexdigest()
    assert back == data
    assert stranger.received == data


@pytest.mark.parametrize("first", [b"", b"SSH-2.0-test\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_tls_passes_a_tunnel_unchanged(onlooker: Proxy, first: bytes) -> None:
    data = first + secrets.token_bytes(300_000)
    with Stranger(tls=False) as stranger, tunnel(onlooker, stranger.port) as connection:
        back = exchanged(connection, data)

    assert back == data
    assert stranger.received == data


POST = (
    b"POST /v1/responses HTTP/1.1\r\nhost: portal.qwen.ai\r\ncontent-type: application/json\r\n"
    b'content-length: 29\r\n\r\n{"model": "m", "input": "hi"}'
)


def test_a_host_header_does_not_fetch_the_bearer(onlooker: Proxy) -> None:
    with Stranger(tls=True) as stranger:
        with (
            tunnel(onlooker, stranger.port) as raw,
            # CONNECT to the one, the name of the other in TLS and in the request.
            stranger.trusting.wrap_socket(raw, server_hostname="portal.qwen.ai") as tunnelled,
        ):
            exchanged(tunnelled, POST)
        received = stranger.received

    assert received == POST
    assert FAKE_KEY.encode() not in received


def test_a_host_header_in_a_plain_request_does_not_fetch_the_bearer(
    start_proxy: StartProxy, plain: SimulatorProcess, onlooker: Proxy
) -> None:
    plain.reset()
    with Way(onlooker).http() as http:
        http.post(f"{plain.url}/v1/responses", json=BODY, headers={"host": "portal.qwen.ai"})

    (received,) = plain.requests(received=1)
    assert received["path"] == "/v1/responses"
    assert FAKE_KEY not in str(received)


# Other paths of a claimed host -------------------------------------------------------------------


@pytest.mark.sends_chat_itself("other paths pass untouched")
@pytest.mark.parametrize("http2", [False, True])
def test_other_paths_pass_untouched_but_authenticated(
    proxy: Proxy, simulator: SimulatorProcess, http2: bool
) -> None:
    chat = b'{ "messages":[{"role":"user","content":"hi"}],\n "model": "sim-ok", "x": 1.50 }'
    verify = ssl.create_default_context(cafile=simulator.ca_pem)
    bearer = {"authorization": f"Bearer {FAKE_KEY}"}
    with (
        Way(proxy).http(http2=http2) as http,
        httpx.Client(
            base_url=simulator.base_url, verify=verify, trust_env=False, headers=bearer
        ) as direct,
    ):
        for method, path, body in [
            ("GET", "/models", b""),
            ("HEAD", "/models", b""),
            ("GET", "/files/file_1?x=1", b""),
            ("DELETE", "/files/file_1", b""),
            ("POST", "/nowhere", b"{"),
            ("POST", "/chat/completions", b"{"),
            ("PUT", "/files/a%20b", secrets.token_bytes(100_000)),
        ]:
            passed = http.request(method, path, content=body, headers={"x-own": "kept"})
            same = direct.request(method, path, content=body)
            assert passed.status_code == same.status_code, (method, path)
            if b"request_id" not in same.content:
                assert passed.content == same.content
            seen, by = simulator.requests()[-2:]
            assert (seen["method"], seen["path"]) == (by["method"], by["path"])
            assert seen["body"] == by["body"]
            assert header(seen, "authorization") == f"Bearer {FAKE_KEY}"
            assert header(seen, "x-own") == "kept"
        answer = http.post("/chat/completions", content=chat)

    assert answer.json()["object"] == "chat.completion"
    assert simulator.requests()[-1]["body"].encode() == chat


@pytest.mark.sends_chat_itself("other paths pass untouched")
@pytest.mark.parametrize("behaviour", ["401", "429+retry-after-3", "502", "gzip", "500-empty"])
def test_a_passed_answer_keeps_status_headers_and_bytes(
    proxy: Proxy, simulator: SimulatorProcess, behaviour: str
) -> None:
    chat = {"model": f"sim-{behaviour}", "messages": [{"role": "user", "content": "hi"}]}
    with Way(proxy).http() as http:
        answer = http.post("/chat/completions", json=chat)

    (received,) = simulator.requests(closed=1)
    assert answer.status_code == received["status"]
    if behaviour.startswith("429"):
        assert answer.headers["retry-after"] == "3"
    if behaviour == "502":
        assert answer.headers["content-type"] == "text/html"
        assert answer.text.startswith("<!DOCTYPE html>")


def test_a_websocket_upgrade_is_answered_426_when_it_is_off(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    off = {"qwen_websocket": "false"}
    proxy = start_proxy(env=account_of(simulator), options=trust(simulator) | off)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
    }
    with Way(proxy).http() as http:
        answer = http.get("/responses", headers=upgrade)

    assert answer.status_code == 426
    assert error_of(answer)["type"] == "invalid_request_error"
    assert simulator.requests() == []


# Upstream mode -----------------------------------------------------------------------------------


def test_upstream_mode_goes_through_the_next_proxy(
    start_proxy: StartProxy, simulator: SimulatorProcess, plain: SimulatorProcess
) -> None:
    plain.reset()
    next_proxy = start_proxy(scripts=[], options={"listen_host": "127.0.0.1", "ignore_hosts": ".*"})
    mode = f"upstream:{next_proxy.url}"
    for upstream, options in ((simulator, trust(simulator)), (plain, {})):
        proxy = start_proxy(mode=mode, env=account_of(upstream), options=options)
        with Way(proxy).http() as http:
            assert text_of(final(ask(http))) == TEXT
            assert checked_events(ask(http, stream=True))
            assert http.get("/models").status_code == 200
        next_proxy.wait_for_log(f"127.0.0.1:{upstream.port}")
        received = upstream.requests(received=3)
        assert {header(r, "authorization") for r in received} == {f"Bearer {FAKE_KEY}"}
    assert FAKE_KEY not in proxy.log


def test_upstream_mode_tells_when_the_next_proxy_is_gone(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(mode="upstream:http://127.0.0.1:9", env=account_of(simulator))
    with Way(proxy).http() as http:
        answer = ask(http)

    assert answer.status_code == 502
    assert "QWEN_API_KEY" in error_of(answer)["message"]


# Accounts ----------------------------------------------------------------------------------------


def write_accounts(home: Path, document: object) -> Path:
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "qwen-auth-accounts.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    file.chmod(0o600)
    return file


def oauth(simulator: SimulatorProcess) -> dict[str, Any]:
    return {
        "refreshToken": "fake-refresh",
        "accessToken": "fake-access",
        "expires": 4_000_000_000_000,
        "resourceUrl": simulator.url,
    }


def ask_until(http: httpx.Client, status: int) -> httpx.Response:
    """Ask again while the proxy does not look at the file; it does so once a second or oftener."""
    deadline = time.monotonic() + 10
    while (answer := ask(http)).status_code != status:
        assert time.monotonic() < deadline, answer.text
    return answer


def test_accounts_come_from_the_file_and_a_change_is_noticed(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    key = {"kind": "api_key", "apiKey": "fake-file-key", "baseUrl": f"{simulator.url}/deep/v1"}
    proxy = start_proxy(options=trust(simulator))
    with Way(proxy).http() as http:
        missing = ask(http)
        file = write_accounts(tmp_path, {"version": 1, "accounts": [oauth(simulator)]})
        by_login = ask_until(http, 200)
        first = simulator.requests()[-1]
        file.write_text('{"version": 1, "accounts": [{"apiKey": "fake-half', "utf-8")
        corrupt = ask_until(http, 400)
        write_accounts(tmp_path, {"version": 7, "accounts": [key]})
        newer = ask(http)
        write_accounts(tmp_path, {"version": 1, "accounts": []})
        empty = ask(http)
        write_accounts(tmp_path, {"version": 1, "accounts": [key]})
        # The simulator has no such path; what it received is what counts.
        ask_until(http, 404)
        last = simulator.requests()[-1]

    assert text_of(final(by_login)) == TEXT
    for answer in (missing, corrupt, newer, empty):
        assert answer.status_code == 400
        assert error_of(answer)["code"] == "no_usable_account"
        assert "fake-half" not in answer.text
    for answer in (missing, corrupt, newer):
        assert str(file) in answer.json()["error"]["message"]
    assert header(first, "authorization") == "Bearer fake-access"
    assert first["path"] == "/v1/chat/completions"
    assert header(last, "authorization") == "Bearer fake-file-key"
    assert last["path"] == "/deep/v1/chat/completions"


def test_the_environments_account_takes_precedence_over_the_file(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    write_accounts(tmp_path, {"version": 1, "accounts": [oauth(simulator)]})
    # Read from a file with line ends of Windows.
    account = {name: f"{value}\r" for name, value in account_of(simulator).items()}
    proxy = start_proxy(env=account, options=trust(simulator))
    with Way(proxy).http() as http:
        ask(http)

    (received,) = simulator.requests()
    assert header(received, "authorization") == f"Bearer {FAKE_KEY}"


# Who may ask -------------------------------------------------------------------------------------


def own_address() -> str:
    """An address of this machine that is not the loopback's. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        host: str = probe.getsockname()[0]
        if not host.startswith("127."):
            return host
    pytest.skip("this machine has no other address")


def test_a_proxy_listens_on_this_machine_alone(proxy: Proxy) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own_address(), proxy.port), timeout=5).close()


def test_remote_clients_are_served_with_the_key_alone(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    address, port = own_address(), unused_port()
    start_proxy(
        mode=f"{REVERSE}@127.0.0.1:{unused_port()}",
        arguments=["--mode", f"{REVERSE}@{address}:{port}"],
        env={**account_of(simulator), "QWEN_LOCAL_KEY": "fake-local-key"},
        options=trust(simulator) | {"qwen_allow_remote": "true"},
    )
    base_url = f"http://{address}:{port}/v1"
    with httpx.Client(base_url=base_url, trust_env=False) as http:
        without = ask(http)
        http.headers["authorization"] = "Bearer fake-local-key"
        with_key = ask(http)

    assert without.status_code == 401
    assert with_key.status_code == 200


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("path", ["/responses", "/chat/completions", "/models"])
def test_a_web_page_is_refused(
    reverse_proxy: Proxy, simulator: SimulatorProcess, path: str
) -> None:
    with Way(reverse_proxy, reverse=True).http() as http:
        answer = http.post(path, json=BODY, headers={"origin": "https://evil.example"})

    assert answer.status_code == 401
    error_of(answer)
    assert simulator.requests() == []


@pytest.mark.sends_chat_itself("other paths pass untouched")
def test_a_local_key_lets_in_who_has_it(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(
        mode=REVERSE,
        env={**account_of(simulator), "QWEN_LOCAL_KEY": "fake-local-key"},
        options=trust(simulator),
    )
    statuses = {}
    with httpx.Client(base_url=f"{proxy.url}/v1", trust_env=False) as http:
        for sent in ("", "Bearer", "Bearer wrong", "fake-local-ke", "Bearer fake-local-key"):
            for path in ("/responses", "/chat/completions"):
                headers = {"authorization": sent} if sent else {}
                body = {**BODY, "messages": [{"role": "user", "content": "hi"}]}
                answer = http.post(path, json=body, headers=headers)
                statuses[sent, path] = answer.status_code

    assert {key for key, status in statuses.items() if status == 200} == {
        ("Bearer fake-local-key", "/responses"),
        ("Bearer fake-local-key", "/chat/completions"),
    }
    assert {status for status in statuses.values() if status != 200} == {401}
    assert len(simulator.requests()) == 2


# Starting ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultyStart:
    named: str
    options: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    qwen_json: str | None = None

    def outcome(self, home: Path, confdir: Path) -> tuple[int, str]:
        """The exit status and the log of mitmdump."""
        file = home / ".config" / "opencode" / "qwen.json"
        if self.qwen_json is not None:
            file.parent.mkdir(parents=True)
            file.write_text(self.qwen_json, "utf-8")
        proxy = Proxy(home, confdir, options=self.options, env=self.env)
        # It may listen for a moment before it ends.
        with contextlib.suppress(ProxyDidNotStart), proxy:
            return proxy.wait(), proxy.log
        return proxy.stop(), proxy.log


FAULTY_STARTS = {
    "unknown option": FaultyStart("qwen_typo", {"qwen_typo": "1"}),
    "bad number": FaultyStart("QWEN_HEARTBEAT_SECONDS", env={"QWEN_HEARTBEAT_SECONDS": "soon"}),
    "insecure": FaultyStart("qwen_allow_insecure", {"ssl_insecure": "true"}),
    "bad qwen.json": FaultyStart("qwen.json", qwen_json='{"quiet_mode": "often"}'),
    "all interfaces": FaultyStart("qwen_local_key", {"listen_host": "0.0.0.0"}),
    "remote without key": FaultyStart("qwen_local_key", {"qwen_allow_remote": "true"}),
}


@pytest.fixture(scope="module")
def faulty_starts(
    confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str]]:
    homes = [tmp_path_factory.mktemp("home") for _ in FAULTY_STARTS]
    with ThreadPoolExecutor(len(homes)) as pool:
        ends = pool.map(
            lambda start, home: start.outcome(home, confdir), FAULTY_STARTS.values(), homes
        )
        return dict(zip(FAULTY_STARTS, ends, strict=True))


@pytest.mark.parametrize("fault", FAULTY_STARTS)
def test_a_faulty_setting_ends_the_start_and_is_named(
    faulty_starts: dict[str, tuple[int, str]], fault: str
) -> None:
    status, log = faulty_starts[fault]

    assert status == 1
    assert FAULTY_STARTS[fault].named in log
    assert "Traceback" not in log


def test_insecure_by_the_users_word_works_and_warns(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(
        env=account_of(simulator), options={"ssl_insecure": "true", "qwen_allow_insecure": "true"}
    )
    with Way(proxy).http() as http:
        assert text_of(final(ask(http))) == TEXT

    assert "CERTIFICATES ARE NOT CHECKED" in proxy.log


def test_a_reload_of_the_addon_keeps_working(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    script = tmp_path / "main.py"
    text = MAIN.read_text("utf-8")
    script.write_text(f"import sys\nsys.path.insert(0, {str(MAIN.parent)!r})\n{text}", "utf-8")
    proxy = start_proxy(env=account_of(simulator), options=trust(simulator), scripts=[script])
    with Way(proxy).http() as http:
        before = ask(http)
        for number in range(1, 3):
            changed = script.stat().st_mtime + 10
            os.utime(script, (changed, changed))
            proxy.wait_for_log(rf"(?s)(qwen-mitm rewrites.*){{{number + 1}}}")
            assert checked_events(ask(http, stream=True))
    with Way(proxy).http() as http:
        again = ask(http)

    assert text_of(final(before)) == text_of(final(again)) == TEXT
    assert {header(r, "authorization") for r in simulator.requests()} == {f"Bearer {FAKE_KEY}"}
    assert "Traceback" not in proxy.log
