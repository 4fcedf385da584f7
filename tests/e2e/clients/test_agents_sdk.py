"""The Agents SDK accepts every answer, with its own tools of all kinds, through a real mitmdump."""

from __future__ import annotations

import json

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients.programs import Sdk
from tests.e2e.clients.test_openai_node import TEXT, THOUGHT


@pytest.fixture
def sdk(agents_sdk: Sdk, simulator: SimulatorProcess) -> Sdk:
    return agents_sdk


each_way = pytest.mark.parametrize("way", ["run", "streamed"])


@each_way
def test_text_and_usage_arrive(sdk: Sdk, way: str, simulator: SimulatorProcess) -> None:
    answer = sdk(way, said="hello there")

    assert answer["output"] == TEXT
    assert answer["streamed"] == (TEXT if way == "streamed" else "")
    assert answer["usage"] == [1, 16]
    assert chats(simulator)[0]["json"]["messages"][0] == {"role": "system", "content": "Be brief."}


@each_way
@pytest.mark.parametrize("continues", [False, True], ids=["history", "previous_response_id"])
def test_a_loop_of_two_steps_runs_parallel_calls_of_functions_and_custom_tools(
    sdk: Sdk, way: str, continues: bool, simulator: SimulatorProcess
) -> None:
    text = 'a "note" \\ with ünicode 🎉\nand lines'
    note = f"note{json.dumps({'input': text})}"
    said = f'call:get_weather{{"city": "Köln"}} call:{note} then:get_time{{"tz": "CET"}}'

    answer = sdk(way, said=said, tools=["functions", "custom"], continues=continues)

    assert answer["results"] == ["rain in Köln", f"noted {text}", "noon in CET"]
    assert "noon in CET" in answer["output"]
    last = chats(simulator)[-1]["json"]["messages"]
    assert [message["role"] for message in last] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "tool",
    ]


@each_way
@pytest.mark.parametrize(
    ("tool", "marker", "result"),
    [
        ("shell", 'shell{"commands": ["ls", "echo ü"]}', "ran ['ls', 'echo ü']"),
        ("local_shell", 'local_shell{"command": ["echo", "ü"]}', "ran ['echo', 'ü']"),
    ],
)
def test_commands_are_run_by_the_tools_of_the_sdk(
    sdk: Sdk, way: str, tool: str, marker: str, result: str
) -> None:
    answer = sdk(way, said=f"call:{marker}", tools=[tool])

    assert answer["results"] == [result]
    assert result in answer["output"]


@each_way
def test_a_patch_is_applied_by_the_editor_of_the_sdk(sdk: Sdk, way: str) -> None:
    operation = {"type": "create_file", "path": "a.txt", "diff": "+grüße 🎉\n"}

    answer = sdk(way, said=f"call:apply_patch{json.dumps(operation)}", tools=["apply_patch"])

    assert answer["edits"] == [["create_file", "a.txt", "+grüße 🎉\n"]]
    assert "edited" in answer["output"]


@each_way
def test_a_handoff_lets_the_other_agent_answer(sdk: Sdk, way: str) -> None:
    answer = sdk(way, said="call:transfer_to_expert{}", handoff=True)

    assert answer["agent"] == "Expert"
    assert "handoff_call_item" in answer["items"]
    assert "Expert" in answer["output"]


@each_way
def test_a_sealed_thought_is_replayed(sdk: Sdk, way: str, simulator: SimulatorProcess) -> None:
    said = 'call:get_time{"tz": "CET"}'

    answer = sdk(way, said=said, tools=["functions"], effort="high", store=False)

    assert answer["items"].count("reasoning_item") == 2
    assistant = chats(simulator)[1]["json"]["messages"][2]
    assert assistant["reasoning_content"] == THOUGHT


@each_way
def test_a_typed_output_is_parsed(sdk: Sdk, way: str) -> None:
    answer = sdk(way, said="the weather", typed=True)

    assert answer["output"].keys() == {"city", "degrees"}


@each_way
@pytest.mark.parametrize(
    ("model", "error", "status", "code"),
    [
        ("sim-400-inspection", "BadRequestError", 400, None),
        ("sim-429-quota", "RateLimitError", 429, "insufficient_quota"),
        ("sim-400-context", "BadRequestError", 400, "context_length_exceeded"),
    ],
)
def test_a_refusal_is_the_error_of_its_status(
    sdk: Sdk, way: str, model: str, error: str, status: int, code: str | None
) -> None:
    answer = sdk(way, said="hello there", model=model)

    assert (answer["error"], answer["status"]) == (error, status)
    assert answer["message"]
    assert code in (None, answer["code"])


def test_an_error_behind_text_ends_the_run_in_its_words(sdk: Sdk) -> None:
    answer = sdk("streamed", said="hello there", model="sim-error-after-text-4")

    assert answer["error"] == "ModelBehaviorError"
    assert "Too many requests" in answer["message"]


def test_leaving_a_stream_ends_it_upstream(sdk: Sdk, simulator: SimulatorProcess) -> None:
    sdk("abort", said="hello there", model="sim-hang-after-3")

    (left,) = simulator.requests(closed=1)
    assert left["outcome"] == "cancelled"
