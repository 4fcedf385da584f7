"""What OpenCode alone does."""

from __future__ import annotations

from pathlib import Path

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients.programs import OpenCode, Workshop
from tests.e2e.proxy import Proxy


def test_a_conversation_that_is_too_long_for_the_host_is_compacted(
    clients: Path, client_home: Path, work: Path, proxy: Proxy, simulator: SimulatorProcess
) -> None:
    simulator.script(["400-context"])

    done = OpenCode(Workshop(clients, client_home, work, proxy)).ask("the long question")

    refused, summary, after = chats(simulator)
    assert [refused["status"], summary["status"], after["status"]] == [400, 200, 200]
    assert "You said" in done.out
    assert "the long question" in summary["json"]["messages"][-1]["content"]
