"""The AI SDK, of which OpenCode is made, accepts every answer, through a real mitmdump."""

from __future__ import annotations

import json

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients.programs import Sdk
from tests.e2e.clients.test_openai_node import TEXT, THOUGHT

SEALED = {"store": False, "include": ["reasoning.encrypted_content"]}
# It knows no reasoning model by the name of Qwen.
THINKING = {**SEALED, "reasoningEffort": "high", "forceReasoning": True}


@pytest.fixture
def sdk(ai_sdk: Sdk, simulator: SimulatorProcess) -> Sdk:
    return ai_sdk


each_way = pytest.mark.parametrize("way", ["generate", "stream"])


@each_way
def test_text_and_usage_arrive(sdk: Sdk, way: str, simulator: SimulatorProcess) -> None:
    answer = sdk(way, prompt="hello there", instructions="Be brief.", options=SEALED)

    assert answer["text"] == TEXT
    assert answer.get("streamed", TEXT) == TEXT
    assert answer["finishReason"] == "stop"
    assert answer["usage"]["outputTokens"] == 16
    assert chats(simulator)[0]["json"]["messages"][0] == {"role": "system", "content": "Be brief."}


@each_way
def test_a_loop_of_two_steps_runs_parallel_calls_of_all_kinds(
    sdk: Sdk, way: str, simulator: SimulatorProcess
) -> None:
    note = 'a "note" \\ with ünicode 🎉\nand lines'
    marker = json.dumps({"input": note})
    prompt = f'call:get_weather{{"city": "Köln"}} call:note{marker} then:get_time{{"tz": "CET"}}'

    answer = sdk(way, prompt=prompt, useTools=True, options=SEALED)

    assert answer["calls"] == [
        ["get_weather", {"city": "Köln"}],
        ["note", note],
        ["get_time", {"tz": "CET"}],
    ]
    assert answer["steps"] == 3
    assert "noon" in answer["text"]
    last = chats(simulator)[-1]["json"]["messages"]
    assert [m["role"] for m in last] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [last[2]["content"], last[3]["content"]] == ["rain in Köln", f"noted {note}"]


@each_way
def test_thoughts_are_given_and_come_back_sealed(
    sdk: Sdk, way: str, simulator: SimulatorProcess
) -> None:
    prompt = 'call:get_time{"tz": "CET"}'

    answer = sdk(way, prompt=prompt, useTools=True, options=THINKING)

    assert answer["reasoningText"] == THOUGHT
    first, second = (request["json"] for request in chats(simulator))
    assert first["reasoning_effort"] == "high"
    assert second["messages"][1]["reasoning_content"] == THOUGHT


def test_a_thought_comes_back_in_the_next_turn_of_a_conversation(
    sdk: Sdk, simulator: SimulatorProcess
) -> None:
    sdk("conversation", prompt="hello there", options=THINKING)

    assistant = chats(simulator)[1]["json"]["messages"][1]
    assert assistant == {"role": "assistant", "content": TEXT, "reasoning_content": THOUGHT}


def test_a_response_goes_on_from_the_one_before(sdk: Sdk, simulator: SimulatorProcess) -> None:
    sdk("continuation", prompt="hello there")

    contents = [message["content"] for message in chats(simulator)[1]["json"]["messages"]]
    assert contents == ["hello there", TEXT, "and now?"]


def test_an_object_of_the_schema_is_given(sdk: Sdk, simulator: SimulatorProcess) -> None:
    answer = sdk("object", prompt="the weather", options=SEALED)

    assert answer.keys() == {"city", "degrees"}
    assert chats(simulator)[0]["json"]["response_format"]["type"] == "json_schema"


@each_way
@pytest.mark.parametrize(
    ("model", "status", "code", "retryable"),
    [
        ("sim-400-inspection", 400, None, False),
        ("sim-429-quota", 429, "insufficient_quota", True),
        ("sim-400-context", 400, "context_length_exceeded", False),
    ],
)
def test_a_refusal_is_an_api_call_error_with_its_words(
    sdk: Sdk, way: str, model: str, status: int, code: str | None, retryable: bool
) -> None:
    answer = sdk(way, prompt="hello there", model=model)

    assert answer["error"] == "AI_APICallError"
    assert (answer["statusCode"], answer["isRetryable"]) == (status, retryable)
    assert answer["message"]
    assert code in (None, answer["code"])


def test_an_error_behind_text_is_an_error_of_the_stream_in_its_words(sdk: Sdk) -> None:
    answer = sdk("stream", prompt="hello there", model="sim-error-after-text-4")

    assert answer["error"].startswith("AI_")
    assert "Too many requests" in answer["message"]


def test_leaving_a_stream_ends_it_upstream(sdk: Sdk, simulator: SimulatorProcess) -> None:
    sdk("abort", prompt="hello there", model="sim-hang-after-3")

    (left,) = simulator.requests(closed=1)
    assert left["outcome"] == "cancelled"
