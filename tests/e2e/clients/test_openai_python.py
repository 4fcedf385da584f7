"""The official SDK for Python: what the other tests leave out. It needs nothing installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import NotFoundError, OpenAI
from openai.types.responses import CustomToolParam, Response

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients import Way
from tests.e2e.clients.test_openai_node import THOUGHT
from tests.e2e.proxy import Proxy
from tests.e2e.test_openai_client import CLOCK, respond

PATCH: CustomToolParam = {
    "type": "custom",
    "name": "apply_patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/s"},
}

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="module")
def client(proxy: Proxy) -> Iterator[OpenAI]:
    with Way(proxy).openai() as client:
        yield client


each_way_of_asking = pytest.mark.parametrize("how", ["create", "stream=True", "stream()"])


def answered(first: Response, history: list[Any], results: dict[str, str]) -> list[Any]:
    """The history with what came back and the result of each call."""
    history = [*history, *(item.to_dict(exclude_unset=True) for item in first.output)]
    for item in first.output:
        if item.type == "function_call" or item.type == "custom_tool_call":
            output = {"type": f"{item.type}_output", "call_id": item.call_id}
            history.append({**output, "output": results[item.name]})
    return history


@each_way_of_asking
def test_a_freeform_call_arrives_as_the_text_that_it_is(
    client: OpenAI, how: str, simulator: SimulatorProcess
) -> None:
    history: list[Any] = [
        {"role": "user", "content": r'call:apply_patch{"input": "+ \"ünï\" \\ 🎉\n"} call:get_time'}
    ]

    first = respond(client, how, history, tools=[PATCH, CLOCK])
    results = {"apply_patch": "patched", "get_time": "noon"}
    second = respond(client, how, answered(first, history, results), tools=[PATCH, CLOCK])

    patching, clock = first.output
    assert patching.type == "custom_tool_call"
    assert patching.input == '+ "ünï" \\ 🎉\n'
    assert clock.type == "function_call"
    assert second.output_text.startswith("The tools said “patched” and “noon”")
    roles = [message["role"] for message in chats(simulator)[1]["json"]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


@each_way_of_asking
def test_a_sealed_thought_is_replayed_and_nothing_is_kept(
    client: OpenAI, how: str, simulator: SimulatorProcess
) -> None:
    history: list[Any] = [{"role": "user", "content": "call:get_time"}]
    asked: dict[str, Any] = {
        "tools": [CLOCK],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"},
    }

    first = respond(client, how, history, **asked)
    second = respond(client, how, answered(first, history, {"get_time": "noon"}), **asked)

    thought = first.output[0]
    assert thought.type == "reasoning"
    assert thought.encrypted_content
    assert "noon" in second.output_text
    assert chats(simulator)[1]["json"]["messages"][1]["reasoning_content"] == THOUGHT
    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)
