"""What bad requests and bad upstreams get, from a real mitmdump."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import httpx
import pytest
import zstandard

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.clients import Way, checked_events, error_of, final, text_of
from tests.e2e.conftest import FAKE_KEY, StartProxy, account_of, trust
from tests.e2e.proxy import Proxy

MODEL = "qwen3-coder-plus"
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}
USER = {"role": "user", "content": "hello"}


@pytest.fixture(scope="session")
def http(reverse_proxy: Proxy) -> Iterator[httpx.Client]:
    with Way(reverse_proxy, reverse=True).http() as client:
        yield client


def said(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "input": "hello", **fields}).encode()


#: What is sent, the status, and words that the message must have.
FAULTS: dict[str, tuple[bytes, int, list[str], str | None]] = {
    "no JSON": (b"{", 400, ["JSON"], None),
    "empty": (b"", 400, ["JSON"], None),
    "an array": (b"[]", 400, ["object"], None),
    "a string": (b'"hello"', 400, ["object"], None),
    "null": (b"null", 400, ["object"], None),
    "invalid UTF-8": (b'{"model": "m", "input": "\xff\xfe"}', 400, ["UTF-8"], None),
    "a deep list": (
        b'{"model": "m", "input": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        400,
        ["recursion"],
        None,
    ),
    "a deep object in metadata": (
        b'{"model": "m", "input": "x", "x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
        400,
        ["recursion"],
        None,
    ),
    "no model": (b'{"input": "hello"}', 400, ["model"], "model"),
    "a number as model": (said(model=7), 400, ["model"], "model"),
    "no input": (json.dumps({"model": MODEL}).encode(), 400, ["input"], "input"),
    "a number as input": (said(input=7), 400, ["input"], "input"),
    "an empty list": (said(input=[]), 400, ["input"], "input"),
    "an item that is no object": (said(input=["hello"]), 400, ["input"], "input[0]"),
    "an unknown item": (said(input=[USER, {"type": "telepathy"}]), 400, ["telepathy"], "input[1]"),
    "an unknown role": (said(input=[{"role": "wizard", "content": "x"}]), 400, ["role"], None),
    "an unknown part": (
        said(input=[{"role": "user", "content": [{"type": "smell", "smell": "x"}]}]),
        400,
        ["smell"],
        None,
    ),
    "an orphan output": (
        said(input=[USER, OUTPUT]),
        400,
        ["No tool call found", "call_1"],
        "input",
    ),
    "an unanswered call": (
        said(input=[USER, CALL, USER], tools=[TOOL]),
        400,
        ["No tool output found", "call_1"],
        "input",
    ),
    "an output without call_id": (
        said(input=[USER, CALL, {"type": "function_call_output", "output": "x"}]),
        400,
        ["call_id"],
        None,
    ),
    "text as tools": (said(tools="look"), 400, ["tools"], "tools"),
    "a tool without name": (said(tools=[{"type": "function"}]), 400, ["name"], "tools[0].name"),
    "an unknown tool": (said(tools=[{"type": "teleport"}]), 400, ["teleport"], "tools[0]"),
    "a choice of no tool": (
        said(tools=[TOOL], tool_choice={"type": "function", "name": "none"}),
        400,
        ["none"],
        "tool_choice",
    ),
    "an unknown choice": (said(tools=[TOOL], tool_choice="sometimes"), 400, [], "tool_choice"),
    "text as temperature": (said(temperature="hot"), 400, ["temperature"], "temperature"),
    "text as stream": (said(stream="maybe"), 400, ["stream"], "stream"),
    "a negative limit": (said(max_output_tokens=-1), 400, [], "max_output_tokens"),
    "a schema that is missing": (
        said(text={"format": {"type": "json_schema", "name": "x"}}),
        400,
        ["schema"],
        None,
    ),
    "background": (said(background=True), 400, ["background"], "background"),
    "a prompt template": (said(prompt={"id": "pmpt_1"}), 400, ["prompt"], "prompt"),
    "an unknown response": (
        said(previous_response_id="resp_unknown"),
        400,
        ["resp_unknown"],
        "previous_response_id",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_refused_by_name_and_never_sent(
    http: httpx.Client, simulator: SimulatorProcess, fault: str
) -> None:
    body, status, words, param = FAULTS[fault]

    answer = http.post("/responses", content=body)

    assert answer.status_code == status
    error = error_of(answer)
    assert error["type"] == "invalid_request_error"
    for word in words:
        assert word in error["message"]
    if param is not None:
        assert str(error["param"]).startswith(param)
    assert simulator.requests() == []
    assert http.post("/responses", content=said()).status_code == 200


CODED: dict[str, tuple[str, bytes, str]] = {
    "broken gzip": ("gzip", gzip.compress(said())[:-12], "gzip"),
    "no gzip": ("gzip", said(), "gzip"),
    "broken zstd": ("zstd", zstandard.compress(said())[:-5], "zstd"),
    "an unknown coding": ("rot13", said(), "rot13"),
}


@pytest.mark.parametrize("fault", CODED)
def test_a_body_that_cannot_be_decoded_is_refused(
    http: httpx.Client, simulator: SimulatorProcess, fault: str
) -> None:
    encoding, body, word = CODED[fault]

    answer = http.post("/responses", content=body, headers={"content-encoding": encoding})

    assert answer.status_code in (400, 415)
    assert word in error_of(answer)["message"]
    assert simulator.requests() == []


@pytest.fixture(scope="module")
def small(
    simulator_session: SimulatorProcess,
    confdir: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    """A proxy that takes no more than 1 MB, and waits no longer than a second."""
    options = {"qwen_max_body_mb": "1", "qwen_upstream_timeout_seconds": "1"}
    with (
        Proxy(
            tmp_path_factory.mktemp("home"),
            confdir,
            mode="reverse:https://portal.qwen.ai",
            env=account_of(simulator_session),
            options={**trust(simulator_session), **options},
        ) as proxy,
        Way(proxy, reverse=True).http() as client,
    ):
        yield client


BIG = said(input="x" * (2**20 + 1))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", BIG),
        ("gzip", gzip.compress(BIG)),
        ("zstd", zstandard.compress(BIG)),
        # Two layers: 300 MB of one byte, packed into less than a kilobyte.
        ("gzip, gzip", gzip.compress(gzip.compress(b"x" * 300 * 2**20, 1))),
    ],
    ids=["plain", "gzip", "zstd", "bomb"],
)
def test_a_body_over_the_limit_is_too_large(
    small: httpx.Client, simulator: SimulatorProcess, encoding: str, body: bytes
) -> None:
    answer = small.post("/responses", content=body, headers={"content-encoding": encoding})

    assert answer.status_code == 413
    assert "qwen_max_body_mb" in error_of(answer)["message"]
    assert simulator.requests() == []
    assert small.post("/responses", content=said()).status_code == 200


def test_a_body_of_unknown_length_is_counted_too(
    small: httpx.Client, simulator: SimulatorProcess
) -> None:
    answer = small.post("/responses", content=iter([b" " * 2**19] * 4))

    assert answer.status_code == 413
    error_of(answer)
    assert simulator.requests() == []
    assert small.post("/responses", content=said()).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_says_nothing_is_given_up(
    small: httpx.Client, simulator: SimulatorProcess, stream: bool
) -> None:
    answer = small.post("/responses", content=said(model="sim-hang", stream=stream))

    assert answer.status_code == 504
    assert "QWEN_API_KEY" in error_of(answer)["message"]
    (received,) = simulator.requests(closed=1)
    assert received["outcome"] == "cancelled"
    assert small.post("/responses", content=said()).status_code == 200


def test_an_upstream_that_falls_silent_fails_the_stream(
    small: httpx.Client, simulator: SimulatorProcess
) -> None:
    answer = small.post("/responses", content=said(model="sim-hang-after-3", stream=True))

    last = checked_events(answer)[-1]
    assert last["type"] == "response.failed"
    assert text_of(last["response"])
    (received,) = simulator.requests(closed=1)
    assert received["outcome"] == "cancelled"


class Stranger:
    """A server that gives ``page`` to everybody, whatever they ask, and hangs up."""

    page = b""

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
            with connection:
                connection.recv(65536)
                connection.sendall(self.page)


HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Wi-Fi</body></html>"
PAGES = {
    "a page": b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n" + HTML,
    "an error page": b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n\r\n" + HTML,
    "an empty 200": b"HTTP/1.1 200 OK\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nlocation: https://login.example\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b'{"id": ',
    "half a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n{",
    "no chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n",
    "a switch": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\ncontent-encoding: rot13\r\n\r\n" + HTML,
    "broken gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + HTML,
    "nothing": b"",
}


def test_strange_upstreams_become_errors_in_json(start_proxy: StartProxy) -> None:
    statuses = {}
    with ExitStack() as stack:
        with Stranger() as stranger:
            base_url = f"http://127.0.0.1:{stranger.port}/v1"
            proxy = start_proxy(
                mode="reverse:https://portal.qwen.ai",
                env={"QWEN_API_KEY": FAKE_KEY, "QWEN_API_BASE_URL": base_url},
            )
            client = stack.enter_context(Way(proxy, reverse=True).http())
            for name, stranger.page in PAGES.items():
                for stream in (False, True):
                    answer = client.post("/responses", content=said(stream=stream))
                    error_of(answer)
                    statuses[name, stream] = answer.status_code
        # Nobody listens there any more.
        refused = client.post("/responses", content=said())

    assert refused.status_code == 502
    assert "QWEN_API_KEY" in error_of(refused)["message"]
    assert statuses == {(name, stream): 502 for name in PAGES for stream in (False, True)}


def test_a_certificate_that_is_not_trusted_gets_no_bearer(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(mode="reverse:https://portal.qwen.ai", env=account_of(simulator))

    with Way(proxy, reverse=True).http() as client:
        answer = client.post("/responses", content=said())

    assert answer.status_code == 502
    assert "certificate" in error_of(answer)["message"].lower()
    assert simulator.requests() == []


def test_sixty_faults_in_a_row_leave_the_proxy_serving(http: httpx.Client) -> None:
    for body in [b"{", b"", said(input=7)] * 20:
        assert http.post("/responses", content=body).status_code == 400

    assert text_of(final(http.post("/responses", content=said())))
