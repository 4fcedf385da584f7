"""mitmdumps that were started one by one, at one port."""

from __future__ import annotations

import sys

import httpx
import pytest

from qwen_mitm.shared_port import HAVE_SOCKETS_OF_THEIR_OWN
from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.status import Status
from tests.e2e.conftest import StartProxy, account_of, trust
from tests.e2e.proxy import Proxy

SHARING = (sys.executable, "-m", "qwen_mitm.shared_port")

pytestmark = pytest.mark.skipif(
    not HAVE_SOCKETS_OF_THEIR_OWN, reason="only Linux shares out connections among processes"
)


def pids_at(proxy: Proxy, wanted: set[int]) -> set[int]:
    """Those that answer there; it asks until the wanted ones have answered, 100 times at most."""
    found: set[int] = set()
    for _ in range(100):
        with httpx.Client(base_url=proxy.url, trust_env=False) as http:
            found.add(Status.model_validate_json(http.get("/qwen.mitm/status.json").content).pid)
        if found >= wanted:
            break
    return found


def test_two_mitmdumps_answer_at_one_port_and_the_other_goes_on_when_one_is_stopped(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    def start(*arguments: str) -> Proxy:
        return start_proxy(
            mode="reverse:https://portal.qwen.ai",
            env=account_of(simulator),
            options=trust(simulator),
            program=SHARING,
            arguments=arguments,
        )

    first = start()
    second = start("-p", str(first.port))
    both = {first.pid, second.pid}

    assert second.port == first.port
    assert pids_at(first, both) == both
    assert first.stop() == 0
    assert pids_at(second, {second.pid}) == {second.pid}
