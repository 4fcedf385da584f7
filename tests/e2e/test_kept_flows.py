"""What mitmweb still has of many turns, asked through its API."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from qwen_mitm.bridge import ASKED_FLOWS
from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.clients import Way, final
from tests.e2e.conftest import account_of, trust
from tests.e2e.web import Web

KEEP = 5


def turn(http: Any, number: int) -> None:
    body = {"model": "qwen3-coder-plus", "input": f"number {number}", "stream": True}
    final(http.post("/responses", json=body))


def test_the_newest_turns_are_kept_and_what_runs(
    tmp_path: Path, confdir: Path, simulator: SimulatorProcess
) -> None:
    options = {**trust(simulator), "qwen_keep_flows": str(KEEP)}
    with (
        Web(tmp_path, confdir, env=account_of(simulator), options=options) as web,
        Way(web).http() as http,
        Way(web).http() as other,
        web.watcher() as watcher,
    ):
        body = {"model": "sim-gate-long@3", "input": "long", "stream": True}
        with other.stream("POST", "/responses", json=body) as running:
            simulator.reached("long")
            for number in range(4 * KEEP):
                turn(http, number)
            flows = watcher.get("/flows").json()
            simulator.release("long")
            running.read()
    assert len(flows) == KEEP + 1
    live = [f for f in flows if not (f["response"] or {}).get("timestamp_end")]
    assert len(live) == 1


def test_turns_do_not_give_way_to_a_status_page_that_asks_again_and_again(
    tmp_path: Path, confdir: Path, simulator: SimulatorProcess
) -> None:
    options = {**trust(simulator), "qwen_keep_flows": str(KEEP)}
    with (
        Web(tmp_path, confdir, env=account_of(simulator), options=options) as web,
        Way(web).http() as http,
        httpx.Client(proxy=web.url, trust_env=False) as page,
        web.watcher() as watcher,
    ):
        for number in range(KEEP):
            turn(http, number)
        for _ in range(4 * KEEP):
            assert page.get("http://qwen.mitm/status.json").status_code == 200
        hosts = Counter(flow["request"]["host"] for flow in watcher.get("/flows").json())
    assert hosts.pop("qwen.mitm") == ASKED_FLOWS
    assert hosts.total() == KEEP
