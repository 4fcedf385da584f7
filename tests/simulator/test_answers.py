from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator.answers import pieces
from qwen_mitm.simulator.schema import example

from .chat import CLOCK, WEATHER, ask, body, calls_of, events, text_of

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def stream_of(client: httpx.AsyncClient, document: Any) -> list[Any]:
    return events((await ask(client, document)).text)


def test_pieces_join_to_the_text() -> None:
    for text in ("", "one", " a  b\n\nc ", "你好 — x"):
        assert "".join(pieces(text)) == text


async def test_a_text_mentions_the_words_of_the_user(client: httpx.AsyncClient) -> None:
    stream = await stream_of(client, body("the moon"))
    assert "the moon" in text_of(stream)
    assert stream[-2]["choices"][0]["finish_reason"] == "stop"
    assert stream[-1]["choices"] == []
    assert stream[-1]["usage"]["total_tokens"] > 0


async def test_usage_comes_only_when_it_is_asked_for(client: httpx.AsyncClient) -> None:
    document = body()
    del document["stream_options"]
    assert all(chunk["usage"] is None for chunk in await stream_of(client, document))


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "qwen3-235b-thinking"},
        {"enable_thinking": True},
        {"reasoning_effort": "low"},
        {"reasoning": {"effort": "high"}},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ],
)
async def test_thoughts_come_when_they_are_asked_for(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    assert text_of(await stream_of(client, body() | fields), "reasoning_content")


@pytest.mark.parametrize("fields", [{}, {"enable_thinking": False}, {"reasoning_effort": "none"}])
async def test_no_thoughts_come_otherwise(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    assert not text_of(await stream_of(client, body() | fields), "reasoning_content")


async def test_marked_tools_are_called_with_arguments_that_fit(client: httpx.AsyncClient) -> None:
    document = body("call:get_weather, then call:get_time.", tools=[WEATHER, CLOCK])
    stream = await stream_of(client, document)
    calls = calls_of(stream)
    assert [name for name, _ in calls.values()] == ["get_weather", "get_time"]
    assert json.loads(calls[0][1]) == {"city": "Hangzhou", "unit": "celsius", "days": 2}
    assert json.loads(calls[1][1]) == {}
    assert stream[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_marker_may_give_the_arguments(client: httpx.AsyncClient) -> None:
    document = body('call:get_weather{"city": "Köln"} please', tools=[WEATHER])
    assert json.loads(calls_of(await stream_of(client, document))[0][1]) == {"city": "Köln"}


async def test_parallel_calls_can_be_switched_off(client: httpx.AsyncClient) -> None:
    document = body("call:get_weather call:get_time", tools=[WEATHER, CLOCK])
    document["parallel_tool_calls"] = False
    assert len(calls_of(await stream_of(client, document))) == 1


async def test_required_tool_choice_calls_a_tool(client: httpx.AsyncClient) -> None:
    document = body("hello", tools=[WEATHER], tool_choice="required")
    assert calls_of(await stream_of(client, document))[0][0] == "get_weather"


async def test_tool_choice_none_calls_nothing(client: httpx.AsyncClient) -> None:
    document = body("call:get_weather", tools=[WEATHER], tool_choice="none")
    assert not calls_of(await stream_of(client, document))


async def test_an_answer_after_tool_results_quotes_them(client: httpx.AsyncClient) -> None:
    document = body("call:get_time call:get_time", tools=[CLOCK], stream=False)
    message = (await ask(client, document)).json()["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"half past {n}"}
        for n, call in enumerate(message["tool_calls"], start=1)
    ]
    document["messages"] += [message, *results]
    answer = (await ask(client, document)).json()["choices"][0]["message"]["content"]
    assert "half past 1" in answer
    assert "half past 2" in answer


async def test_a_later_step_is_called_once_the_earlier_one_was_answered(
    client: httpx.AsyncClient,
) -> None:
    document = body("call:get_time call:get_weather then:get_time", tools=[CLOCK, WEATHER])
    document["stream"] = False
    said = []
    for _ in range(3):
        message = (await ask(client, document)).json()["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        said.append([call["function"]["name"] for call in calls] or message["content"])
        results = [{"role": "tool", "tool_call_id": c["id"], "content": "done"} for c in calls]
        document["messages"] += [message, *results]
    assert said[:2] == [["get_time", "get_weather"], ["get_time"]]
    assert "done" in said[2]


async def test_a_json_schema_is_followed(client: httpx.AsyncClient) -> None:
    schema = WEATHER["function"]["parameters"]
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
    text = text_of(await stream_of(client, body(response_format=wanted)))
    assert json.loads(text) == {"city": "Hangzhou", "unit": "celsius", "days": 2}


async def test_images_are_counted_and_measured(client: httpx.AsyncClient) -> None:
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    text = text_of(await stream_of(client, body(messages=[{"role": "user", "content": parts}])))
    assert f"2 image(s): 1x1 ({len(PNG)} bytes), https://example.com/a.png" in text


async def test_a_token_limit_cuts_the_text(client: httpx.AsyncClient) -> None:
    stream = await stream_of(client, body("hello", max_tokens=2))
    assert text_of(stream) == "You said"
    assert stream[-2]["choices"][0]["finish_reason"] == "length"


async def test_an_answer_that_is_not_streamed_is_one_document(client: httpx.AsyncClient) -> None:
    response = await ask(client, body("moon", stream=False))
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert "moon" in response.json()["choices"][0]["message"]["content"]


async def test_models_are_listed(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/models")).json()["data"]
    assert "qwen3-coder-plus" in [model["id"] for model in listed]


def test_examples_follow_references_and_alternatives() -> None:
    schema = {
        "$defs": {"step": {"type": "object", "properties": {"n": {"type": ["null", "integer"]}}}},
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
            "kind": {"anyOf": [{"const": "a"}, {"type": "null"}]},
        },
    }
    assert example(schema) == {"steps": [{"n": 1}], "kind": "a"}
