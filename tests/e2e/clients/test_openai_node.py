"""The official SDK for Node accepts every answer, through a real mitmdump."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients.programs import Sdk

MODEL = "qwen3-coder-plus"
TEXT = "You said “hello there”. 你好 — this is the Qwen simulator, and it heard you. 👋"
THOUGHT = "The user wants an answer. I look at the words and keep it short."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Patches files."}


@pytest.fixture
def sdk(openai_node: Sdk, simulator: SimulatorProcess) -> Sdk:
    return openai_node


@pytest.mark.parametrize("way", ["create", "stream"])
def test_text_and_usage_arrive(sdk: Sdk, way: str) -> None:
    response = sdk(way, model=MODEL, input="hello there")

    assert response["status"] == "completed"
    assert response["output_text"] == TEXT
    assert response["usage"]["output_tokens"] == 16


@pytest.mark.parametrize("way", ["create", "stream"])
def test_parallel_calls_of_all_kinds_are_answered(
    sdk: Sdk, way: str, simulator: SimulatorProcess
) -> None:
    patch = '*** Begin Patch\n+ "ünï" \\ 🎉\n*** End Patch'
    said = f'call:get_weather{{"city": "Köln"}} call:apply_patch{json.dumps({"input": patch})}'
    history: list[dict[str, Any]] = [{"role": "user", "content": said}]
    asked = {"model": MODEL, "tools": [WEATHER, PATCH]}

    first = sdk(way, input=history, **asked)
    weather, patching = first["output"]
    outputs = [
        {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": f"result {number}"}
        for number, call in enumerate((weather, patching))
    ]
    second = sdk(way, input=[*history, *first["output"], *outputs], **asked)

    assert (weather["type"], json.loads(weather["arguments"])) == (
        "function_call",
        {"city": "Köln"},
    )
    assert (patching["type"], patching["input"]) == ("custom_tool_call", patch)
    assert second["output_text"].startswith("The tools said “result 0” and “result 1”")
    messages = chats(simulator)[1]["json"]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("way", ["create", "stream"])
def test_a_sealed_thought_is_replayed(sdk: Sdk, way: str, simulator: SimulatorProcess) -> None:
    history: list[dict[str, Any]] = [{"role": "user", "content": "call:get_weather"}]
    asked = {
        "model": MODEL,
        "tools": [WEATHER],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high"},
    }

    first = sdk(way, input=history, **asked)
    thought, call = first["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    sdk(way, input=[*history, *first["output"], output], **asked)

    assert thought["encrypted_content"]
    assert chats(simulator)[1]["json"]["messages"][1]["reasoning_content"] == THOUGHT


def test_a_response_goes_on_from_the_one_before(sdk: Sdk, simulator: SimulatorProcess) -> None:
    first = sdk("create", model=MODEL, input="hello there")
    second = sdk("stream", model=MODEL, input="and now?", previous_response_id=first["id"])

    assert second["previous_response_id"] == first["id"]
    contents = [message["content"] for message in chats(simulator)[1]["json"]["messages"]]
    assert contents == ["hello there", TEXT, "and now?"]


def test_parse_gives_the_object_of_the_schema(sdk: Sdk, simulator: SimulatorProcess) -> None:
    response = sdk("parse", model=MODEL, input="the weather")

    assert response["output_parsed"].keys() == {"city", "degrees"}
    assert chats(simulator)[0]["json"]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("way", ["create", "stream"])
@pytest.mark.parametrize(
    ("model", "error", "status", "code"),
    [
        ("sim-400-inspection", "BadRequestError", 400, None),
        ("sim-401", "AuthenticationError", 401, None),
        ("sim-429-quota", "RateLimitError", 429, "insufficient_quota"),
        ("sim-400-context", "BadRequestError", 400, "context_length_exceeded"),
    ],
)
def test_a_refusal_is_the_error_of_its_status(
    sdk: Sdk, way: str, model: str, error: str, status: int, code: str | None
) -> None:
    answer = sdk(way, model=model, input="hello there")

    assert (answer["error"], answer["status"]) == (error, status)
    assert answer["message"].startswith(f"{status} ")
    assert code in (None, answer["code"])


def test_an_error_behind_text_is_a_failed_response(sdk: Sdk) -> None:
    last = sdk("events", model="sim-error-after-text-4", input="hello there")

    assert last["type"] == "response.failed"
    assert "Too many requests" in last["response"]["error"]["message"]


def test_leaving_a_stream_ends_it_upstream(sdk: Sdk, simulator: SimulatorProcess) -> None:
    sdk("abort", model="sim-hang-after-3", input="hello there")

    (left,) = simulator.requests(closed=1)
    assert left["outcome"] == "cancelled"
