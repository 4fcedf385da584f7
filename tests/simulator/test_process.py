from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess

from .chat import BEARER, body, events


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as process:
        yield process


@pytest.fixture
def process(running: SimulatorProcess) -> SimulatorProcess:
    running.reset()
    running.accounts({})
    return running


@pytest.fixture
def client(process: SimulatorProcess) -> Iterator[httpx.Client]:
    verify = ssl.create_default_context(cafile=process.ca_pem)
    with httpx.Client(
        base_url=process.base_url, headers=BEARER, verify=verify, trust_env=False
    ) as client:
        yield client


def test_requests_are_listed(process: SimulatorProcess, client: httpx.Client) -> None:
    client.post("/chat/completions", json=body("over there"))
    (request,) = process.requests(received=1, closed=1)
    assert request["json"]["messages"][0]["content"] == "over there"
    assert request["outcome"] == "answered"
    assert ["authorization", "Bearer token-for-tests"] in request["headers"]


def test_a_gate_opens_on_release(process: SimulatorProcess, client: httpx.Client) -> None:
    with client.stream("POST", "/chat/completions", json=body(model="sim-gate-b")) as response:
        pieces = response.iter_text()
        assert len(events(next(pieces))) == 1
        process.reached("b")
        process.release("b")
        assert "".join(pieces).endswith("[DONE]\n\n")


def test_a_client_that_goes_away_is_seen(process: SimulatorProcess, client: httpx.Client) -> None:
    with client.stream("POST", "/chat/completions", json=body(model="sim-gate-c@2")) as response:
        pieces = response.iter_raw()
        next(pieces)
        process.reached("c")
    (request,) = process.requests(closed=1)
    assert (request["outcome"], request["cancelled_after_chunks"]) == ("cancelled", 2)


def test_a_script_is_queued(process: SimulatorProcess, client: httpx.Client) -> None:
    process.script(["429", {"status": 500, "body": "no"}])
    statuses = [client.post("/chat/completions", json=body()).status_code for _ in range(3)]
    assert statuses == [429, 500, 200]


def test_a_script_that_makes_no_sense_is_refused(process: SimulatorProcess) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        process.script([{"behavior": "429"}])


def test_accounts_can_be_set(process: SimulatorProcess, client: httpx.Client) -> None:
    process.accounts({"token-a": "first"})
    assert client.get("/models").status_code == 401


def test_waiting_in_vain_is_an_error(process: SimulatorProcess) -> None:
    with pytest.raises(TimeoutError):
        process.requests(received=1, timeout=0.01)
    with pytest.raises(TimeoutError):
        process.reached("nowhere", timeout=0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "qwen_mitm.simulator", "--plain", "--directory", str(tmp_path)]
    root = str(Path(__file__).parents[2] / "addon")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": root},
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["url"] == f"http://127.0.0.1:{ready['port']}"
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")
