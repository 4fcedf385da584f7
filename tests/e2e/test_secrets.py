"""No key and no cookie in what mitmproxy writes down or shows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.clients import CLIENT_KEY, Way
from tests.e2e.conftest import FAKE_KEY, StartProxy, account_of, trust
from tests.e2e.proxy import Proxy
from tests.e2e.web import Web

COOKIE = "fake-cookie-of-the-client"
LOCAL_KEY = "fake-local-key"
SECRETS = [FAKE_KEY, CLIENT_KEY, COOKIE, LOCAL_KEY]
HEADERS = {
    "cookie": f"session={COOKIE}",
    "x-api-key": CLIENT_KEY,
    "api-key": CLIENT_KEY,
    "proxy-authorization": f"Bearer {CLIENT_KEY}",
}
BODY = {"model": "qwen3-coder-plus", "input": "hello there", "stream": True}


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def traffic(http: httpx.Client, simulator: SimulatorProcess) -> None:
    """Successes and failures of every kind; the last answer is still under way."""
    for model in ("qwen3-coder-plus", "sim-401", "sim-429", "sim-502", "sim-drop", "sim-html"):
        for stream in (True, False):
            http.post("/responses", json=BODY | {"model": model, "stream": stream})
    http.post("/responses", content=b"{")
    http.post("/responses", content=b"{", headers={"content-encoding": "gzip"})
    http.get("/models")
    http.post("/chat/completions", json={"model": "x", "messages": []})
    http.get("/nowhere")


@pytest.fixture(params=[1, 2], ids=["h1", "h2"])
def http2(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == 2)


def test_nothing_secret_is_saved_or_logged(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path, http2: bool
) -> None:
    flows, har = tmp_path / "flows.mitm", tmp_path / "flows.har"
    proxy = start_proxy(
        env=account_of(simulator),
        options={**trust(simulator), "hardump": str(har), "flow_detail": "4"},
        arguments=["-w", str(flows), "-v"],
    )
    with Way(proxy).http(http2=http2) as http:
        http.headers.update(HEADERS)
        traffic(http, simulator)
        with http.stream("POST", "/responses", json=BODY | {"model": "sim-gate-saved@3"}) as answer:
            # An iterator that is let go closes the answer.
            pieces = answer.iter_raw()
            next(pieces)
            simulator.reached("saved")
            # Saves what is under way, too.
            assert proxy.stop() == 0

    saved, harred = flows.read_bytes().decode("latin-1"), har.read_text("utf-8")
    assert "/v1/chat/completions" in saved
    assert "hello there" in saved
    assert "/chat/completions" in harred
    assert "POST" in proxy.log
    assert leaks(saved) == []
    assert leaks(harred) == []
    assert leaks(proxy.log) == []


def test_a_local_key_is_no_secret_that_is_saved_or_sent_on(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    flows = tmp_path / "flows.mitm"
    proxy = start_proxy(
        mode="reverse:https://portal.qwen.ai",
        env={**account_of(simulator), "QWEN_LOCAL_KEY": LOCAL_KEY},
        options=trust(simulator) | {"flow_detail": "4"},
        arguments=["-w", str(flows), "-v"],
    )
    with Way(proxy, reverse=True).http() as http:
        wrong = http.post("/responses", json=BODY)
        http.headers["authorization"] = f"Bearer {LOCAL_KEY}"
        right = http.post("/responses", json=BODY)
    proxy.stop()

    assert (wrong.status_code, right.status_code) == (401, 200)
    assert leaks(flows.read_bytes().decode("latin-1")) == []
    assert leaks(proxy.log) == []
    (received,) = simulator.requests()
    assert LOCAL_KEY not in str(received)


@pytest.fixture
def web(tmp_path: Path, confdir: Path, simulator: SimulatorProcess) -> Iterator[Web]:
    with Web(tmp_path, confdir, env=account_of(simulator), options=trust(simulator)) as started:
        yield started


def test_mitmweb_shows_no_secret_while_an_answer_is_under_way(
    web: Web, simulator: SimulatorProcess
) -> None:
    body = BODY | {"model": "sim-gate-shown@3"}
    shown = []
    with Way(web).http() as http, web.watcher() as watcher:
        http.headers.update(HEADERS)
        with http.stream("POST", "/responses", json=body) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            simulator.reached("shown")
            shown.append(watcher.get("/flows"))
            flow = shown[0].json()[0]
            shown.append(watcher.get(f"/flows/{flow['id']}/request/content.data"))
            shown.append(watcher.get("/options"))
            simulator.release("shown")
            for _ in pieces:
                pass
        shown.append(watcher.get("/flows"))

    assert [answer.status_code for answer in shown] == [200] * 4
    assert flow["request"]["path"] == "/v1/chat/completions"
    assert flow["request"]["host"] == "127.0.0.1"
    for answer in shown:
        assert leaks(answer.text) == []


def test_the_key_is_in_no_list_of_options(
    simulator: SimulatorProcess, proxy: Proxy, tmp_path: Path
) -> None:
    command = [*proxy._command[:1], "-s", proxy._command[proxy._command.index("-s") + 1]]
    environment = proxy._env | {"QWEN_LOCAL_KEY": LOCAL_KEY, "HOME": str(tmp_path)}

    done = subprocess.run(
        [*command, "--options"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=True,
    )

    # Before 12.2 mitmproxy lists its own options alone.
    assert "listen_port" in done.stdout
    assert leaks(done.stdout + done.stderr) == []
