"""That the check of all traffic finds what is wrong: the marker fails a test without a fault."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.clients import Way
from tests.e2e.conftest import StartProxy, account_of, trust
from tests.e2e.proxy import MAIN, WITNESS
from tests.watch import BROKEN_RULE

CREATED = b'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n'


class WrongStream(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(CREATED)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def wrong_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), WrongStream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.makes_invalid("shows that a client's stream is checked")
def test_a_wrong_stream_is_seen(wrong_url: str) -> None:
    with httpx.Client(trust_env=False) as http:
        assert http.post(f"{wrong_url}/responses", json={}).content == CREATED


@pytest.mark.makes_invalid("shows that the official client's stream is checked")
def test_a_wrong_stream_of_the_official_client_is_seen(wrong_url: str) -> None:
    with openai.OpenAI(api_key="fake-client-key", base_url=wrong_url, max_retries=0) as client:
        for _ in client.responses.create(model="m", input="x", stream=True):
            pass


@pytest.mark.makes_invalid("shows that what the simulator received is checked")
def test_a_wrong_request_is_seen(simulator: SimulatorProcess) -> None:
    orphan = {"role": "tool", "tool_call_id": "call_a", "content": "x"}
    body = {"model": "qwen3-coder-plus", "messages": [{"role": "user", "content": "x"}, orphan]}
    verify = ssl.create_default_context(cafile=simulator.ca_pem)
    with httpx.Client(trust_env=False, verify=verify) as http:
        http.post(f"{simulator.base_url}/chat/completions", json=body)
    simulator.reset()


@pytest.mark.makes_invalid("shows that what a proxy answers is checked in the proxy")
def test_a_wrong_stream_is_seen_in_the_proxy(
    simulator: SimulatorProcess, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(
        env=account_of(simulator),
        options=trust(simulator),
        scripts=(WITNESS, WITNESS.with_name("liar.py"), MAIN),
    )
    with Way(proxy).http() as http:
        http.post("/responses", json={"model": "qwen3-coder-plus", "input": "x", "stream": True})
    assert BROKEN_RULE in proxy.wait_for_log(BROKEN_RULE)
