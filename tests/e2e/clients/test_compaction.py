"""Real clients compact their conversations and go on from the summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients.conftest import SCRIPTS
from tests.e2e.clients.programs import BASE_URL, Codex, Sdk, Workshop
from tests.e2e.conftest import StartProxy, account_of, trust

MODEL = "qwen3-coder-plus"
SUMMARY = "Summary of the conversation so far."
HISTORY = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "Hello."},
]


def words(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Role and first word of each message."""
    return [(m["role"], m["content"].partition(" ")[0]) for m in messages]


@pytest.mark.parametrize("over", ["websocket", "http"])
def test_codex_goes_on_from_the_summary(
    clients: Path,
    client_home: Path,
    work: Path,
    start_proxy: StartProxy,
    simulator: SimulatorProcess,
    over: str,
) -> None:
    options = {**trust(simulator), "qwen_websocket": str(over == "websocket").lower()}
    proxy = start_proxy(env=account_of(simulator), options=options, scripts=SCRIPTS)
    codex = Codex(Workshop(clients, client_home, work, proxy))
    settings = ["model_provider=openai", f"openai_base_url={BASE_URL}"]

    done = codex.ask(
        f"call:{codex.command('echo one')}",
        settings=[*settings, "model_auto_compact_token_limit=20"],
    )

    assert done.status == 0, done.shown
    assert ("101 Switching Protocols" in proxy.log) == (over == "websocket")
    asked, compacting, after = (request["json"] for request in chats(simulator))
    assert compacting["tools"] == asked["tools"]
    assert compacting["tool_choice"] == "none"
    assert [m["role"] for m in compacting["messages"]][-3:] == ["assistant", "tool", "user"]
    assert after["messages"][-1]["content"].startswith(SUMMARY)
    assert "tool" not in [m["role"] for m in after["messages"]]


def test_the_ai_sdk_keeps_the_compaction_and_sends_it_back(
    ai_sdk: Sdk, simulator: SimulatorProcess
) -> None:
    answer = ai_sdk("compaction", prompt="hello there", options={"store": False})

    assert SUMMARY not in answer["text"]
    ((part,),) = [message["content"] for message in answer["kept"]]
    assert part["kind"] == "openai.compaction"
    _, compacting, after = (request["json"]["messages"] for request in chats(simulator))
    assert words(compacting) == [("user", "hello"), ("assistant", "You"), ("user", "This")]
    assert words(after) == [("user", "hello"), ("user", "Summary"), ("user", "and")]


@pytest.mark.parametrize("way", ["create", "stream"])
def test_the_sdk_for_node_takes_a_compaction_as_output_and_as_input(
    openai_node: Sdk, simulator: SimulatorProcess, way: str
) -> None:
    window = openai_node("compact", model=MODEL, input=HISTORY)
    response = openai_node(way, model=MODEL, input=[*HISTORY, {"type": "compaction_trigger"}])
    openai_node(way, model=MODEL, input=[*window["output"], *response["output"], HISTORY[0]])

    assert window["object"] == "response.compaction"
    assert [item["type"] for item in window["output"]] == ["message", "compaction"]
    assert [item["type"] for item in response["output"]] == ["compaction"]
    last = chats(simulator)[-1]["json"]["messages"]
    assert words(last) == [
        *(("user", word) for word in ("hello", "Summary", "Summary", "hello")),
    ]
