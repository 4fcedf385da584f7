from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.simulator import Simulator
from qwen_mitm.simulator.behaviours import BEHAVIOURS, cook, find
from qwen_mitm.simulator.schema import InvalidSchema, example

from .chat import CLOCK, WEATHER, ask, body, calls_of, events, streaming, text_of

TOOLS = {"tools": [WEATHER, CLOCK]}
BOTH = "call:get_weather call:get_time"
ARGUMENTS = {"city": "Hangzhou", "unit": "celsius", "days": 2}


async def raw(client: httpx.AsyncClient, behaviour: str, text: str = "hello", **more: Any) -> str:
    return (await ask(client, body(text, f"sim-{behaviour}", **more))).text


async def stream_of(client: httpx.AsyncClient, behaviour: str, text: str = "hello") -> list[Any]:
    more = TOOLS if "call:" in text else {}
    return events(await raw(client, behaviour, text, **more))


def call_deltas(stream: list[Any]) -> list[Any]:
    return [
        call
        for chunk in stream
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("text", ["hello", BOTH])
@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
def test_every_behaviour_makes_a_performance(behaviour: str, text: str, stream: bool) -> None:
    document = body(text, f"sim-{behaviour}", stream=stream, **TOOLS)
    assert cook(document, behaviour).performance().status >= 200


@pytest.mark.parametrize(
    ("name", "argument"),
    [("gate-a@-1", "a@-1"), ("retry-after-ms-5", "5"), ("429", ""), ("eof--2", "-2")],
)
def test_the_rest_of_a_name_is_the_argument(name: str, argument: str) -> None:
    assert find(name)[1] == argument


async def test_an_unknown_behaviour_is_an_unknown_model(client: httpx.AsyncClient) -> None:
    response = await ask(client, body(model="sim-nonsense"))
    assert response.status_code == 404
    assert "role-everywhere" in response.json()["error"]["message"]


async def test_a_provider_before_the_name_does_not_matter(client: httpx.AsyncClient) -> None:
    assert (await ask(client, body(model="qwen/sim-503"))).status_code == 503


async def test_behaviours_add_up(client: httpx.AsyncClient) -> None:
    text = await raw(client, "long-5+crlf+no-done+finish-length")
    stream = events(text.replace("\r\n", "\n"))
    assert text.endswith("\r\n\r\n")
    assert "[DONE]" not in text
    assert text_of(stream) == "word0 word1 word2 word3 word4"
    assert stream[-2]["choices"][0]["finish_reason"] == "length"


async def test_role_comes_on_every_chunk(client: httpx.AsyncClient) -> None:
    stream = await stream_of(client, "role-everywhere")
    assert all(c["delta"]["role"] == "assistant" for chunk in stream for c in chunk["choices"])


async def test_usage_comes_on_every_chunk_and_the_last_is_right(client: httpx.AsyncClient) -> None:
    everywhere = await stream_of(client, "usage-everywhere")
    late = await stream_of(client, "usage-late")
    assert all(chunk["usage"] and chunk["choices"] for chunk in everywhere)
    counted = [chunk["usage"]["completion_tokens"] for chunk in everywhere]
    assert counted == sorted(counted)
    assert counted[-1] == late[-1]["usage"]["completion_tokens"]


async def test_usage_can_be_left_out_or_partial(client: httpx.AsyncClient) -> None:
    assert all(chunk["usage"] is None for chunk in await stream_of(client, "no-usage"))
    assert list((await stream_of(client, "usage-total-only"))[-1]["usage"]) == ["total_tokens"]
    assert "cached_tokens" in (await stream_of(client, "usage-top-level-cached"))[-1]["usage"]


async def test_reasoning_has_either_name_or_tags(client: httpx.AsyncClient) -> None:
    thoughts = text_of(await stream_of(client, "reasoning"), "reasoning_content")
    assert thoughts
    assert text_of(await stream_of(client, "reasoning+reasoning-field"), "reasoning") == thoughts
    assert text_of(await stream_of(client, "think-tags")).startswith(f"<think>\n{thoughts}")


async def test_calls_come_whole(client: httpx.AsyncClient) -> None:
    calls = call_deltas(await stream_of(client, "whole-calls", BOTH))
    assert [json.loads(c["function"]["arguments"]) for c in calls] == [ARGUMENTS, {}]


async def test_calls_come_in_fragments_by_default(client: httpx.AsyncClient) -> None:
    calls = call_deltas(await stream_of(client, "ok", BOTH))
    assert len(calls) > 4
    assert ["id" in call for call in calls[:3]] == [True, False, False]


async def test_continuations_can_have_empty_names_and_ids(client: httpx.AsyncClient) -> None:
    calls = call_deltas(await stream_of(client, "blank-continuation", BOTH))
    assert (calls[1]["id"], calls[1]["function"]["name"]) == ("", "")


async def test_names_can_be_late_or_repeated(client: httpx.AsyncClient) -> None:
    late = call_deltas(await stream_of(client, "late-name", "call:get_weather"))
    assert ["name" in call["function"] for call in late] == [False] * (len(late) - 1) + [True]
    repeated = call_deltas(await stream_of(client, "repeated-name", "call:get_weather"))
    assert {call["function"]["name"] for call in repeated} == {"get_weather"}


async def test_indices_can_be_missing_or_reused_or_start_at_one(client: httpx.AsyncClient) -> None:
    missing = call_deltas(await stream_of(client, "no-index", BOTH))
    assert not any("index" in call for call in missing)
    reused = call_deltas(await stream_of(client, "reused-index", BOTH))
    assert {call["index"] for call in reused} == {0}
    assert len({call["id"] for call in reused if "id" in call}) == 2
    shifted = call_deltas(await stream_of(client, "index-from-one", BOTH))
    assert {call["index"] for call in shifted} == {1, 2}


async def test_fragments_can_be_interleaved_and_replayed(client: httpx.AsyncClient) -> None:
    mixed = await stream_of(client, "interleaved", BOTH)
    assert [call["index"] for call in call_deltas(mixed)][:3] == [0, 1, 0]
    assert json.loads(calls_of(mixed)[0][1]) == ARGUMENTS
    replayed = call_deltas(await stream_of(client, "replayed-calls", BOTH))
    assert json.loads(replayed[-2]["function"]["arguments"]) == ARGUMENTS


async def test_arguments_can_be_odd(client: httpx.AsyncClient) -> None:
    one = "call:get_weather"
    as_object = call_deltas(await stream_of(client, "argument-objects", one))
    assert as_object[0]["function"]["arguments"] == ARGUMENTS
    empty = call_deltas(await stream_of(client, "empty-arguments", one))
    assert [call["function"]["arguments"] for call in empty] == [""]
    broken = calls_of(await stream_of(client, "broken-arguments", one))[0][1]
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(broken)


async def test_calls_can_be_legacy_or_end_in_stop_or_be_invented(client: httpx.AsyncClient) -> None:
    legacy = await stream_of(client, "legacy-call", "call:get_weather")
    assert legacy[1]["choices"][0]["delta"]["function_call"]["name"] == "get_weather"
    stopped = await stream_of(client, "stop-with-calls", "call:get_weather")
    assert stopped[-2]["choices"][0]["finish_reason"] == "stop"
    assert call_deltas(stopped)
    assert calls_of(await stream_of(client, "call-nobody"))[0][0] == "nobody"


async def test_deltas_can_be_cumulative(client: httpx.AsyncClient) -> None:
    stream = await stream_of(client, "cumulative+long-3")
    said = [c["choices"][0]["delta"].get("content") for c in stream if c["choices"]]
    assert said == ["", "word0", "word0 word1", "word0 word1 word2", ""]


async def test_the_event_stream_can_be_odd(client: httpx.AsyncClient) -> None:
    assert (await raw(client, "done-without-newline")).endswith("\n\ndata: [DONE]")
    assert "data: " not in await raw(client, "no-space")
    assert ": keep-alive\n\ndata: {" in await raw(client, "comments")
    assert "\r\n" not in await raw(client, "cr")
    assert "\n" not in (await raw(client, "cr")).replace("\\n", "")
    assert (await raw(client, "bom")).startswith("\ufeffdata:")
    assert "data:  " in await raw(client, "several-data-lines")


async def test_errors_come_inside_a_good_answer(client: httpx.AsyncClient) -> None:
    first = await ask(client, body(model="sim-error-first"))
    assert first.status_code == 200
    assert [next(iter(event)) for event in events(first.text)] == ["error"]
    later = events(await raw(client, "error-after-text"))
    assert ["error" in event for event in later] == [False, False, False, True]
    assert (await raw(client, "error-event")).count("event: error\n") == 1


async def test_error_finish_has_its_text_in_the_content(client: httpx.AsyncClient) -> None:
    stream = await stream_of(client, "error-finish")
    assert "too frequent" in text_of(stream)
    assert stream[-2]["choices"][0]["finish_reason"] == "error_finish"


async def test_a_stream_can_end_without_an_end(client: httpx.AsyncClient) -> None:
    text = await raw(client, "eof-2")
    assert len(events(text)) == 2
    assert "[DONE]" not in text


async def test_characters_are_split_and_still_whole(client: httpx.AsyncClient) -> None:
    async with streaming(client, body(model="sim-split-utf8")) as response:
        pieces = [piece async for piece in response.aiter_raw()]
    assert any(piece[-1] > 0x7F for piece in pieces)
    assert "你好" in text_of(events(b"".join(pieces).decode()))


async def test_a_silent_model_sends_comments_or_nothing(client: httpx.AsyncClient) -> None:
    text = await raw(client, "heartbeats-0.2")
    assert text.index(": keep-alive") > text.index('"role"')
    assert events(await raw(client, "silent-0.01"))


async def test_a_paced_answer_has_its_length(client: httpx.AsyncClient) -> None:
    stream = await stream_of(client, "paced-1000hz-20")
    assert text_of(stream).endswith("word19")


@pytest.mark.parametrize(
    ("behaviour", "status", "words"),
    [
        ("401", 401, "invalid access token or token expired"),
        ("403-quota", 403, "insufficient_quota"),
        ("404", 404, "model_not_found"),
        ("429", 429, "Throttling.RateQuota"),
        ("429-hour", 429, "hour allocated quota exceeded"),
        ("503", 503, "overloaded"),
        ("529", 529, "overloaded"),
        ("502", 502, "<title>502 Bad Gateway</title>"),
        ("html", 200, "<html>"),
        ("401-native", 401, "InvalidApiKey"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_refusals_have_the_words_of_the_catalogue(
    client: httpx.AsyncClient, behaviour: str, status: int, words: str, stream: bool
) -> None:
    response = await ask(client, body(model=f"sim-{behaviour}", stream=stream))
    assert response.status_code == status
    assert words in response.text


async def test_a_refusal_can_say_when_to_come_back(client: httpx.AsyncClient) -> None:
    name = "sim-429+retry-after-7+retry-after-ms-7000+rate-limits"
    response = await ask(client, body(model=name))
    assert response.headers["retry-after"] == "7"
    assert response.headers["retry-after-ms"] == "7000"
    assert response.headers["x-ratelimit-limit-requests"] == "60"


async def test_a_script_comes_before_the_model_name(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    simulator.script(
        [
            {"behaviour": "503", "bearer": "other"},
            "429+retry-after-2",
            {"status": 418, "headers": {"x-a": "b"}, "body": "short"},
            {"frames": ["data: {}\n\n", "data: [DONE]\n\n"]},
        ]
    )
    answers = [await ask(client, body()) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 418, 200, 200]
    assert (answers[1].text, answers[1].headers["x-a"]) == ("short", "b")
    assert answers[2].text == "data: {}\n\ndata: [DONE]\n\n"
    assert "You said" in text_of(events(answers[3].text))


async def test_a_line_for_a_bearer_serves_its_times(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    simulator.script([{"behaviour": "429", "bearer": "token-for-tests", "times": None}])
    other = {"authorization": "Bearer other"}
    assert (await ask(client, body())).status_code == 429
    assert (await ask(client, body())).status_code == 429
    assert (await client.post("/chat/completions", json=body(), headers=other)).status_code == 200


SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["object", "array", "string", "integer", "null"]) | inner},
            optional={
                key: inner
                for key in ["properties", "required", "items", "enum", "anyOf", "$ref", "minItems"]
            },
        )
    ),
    max_leaves=10,
)


@given(SCHEMAS)
def test_a_schema_has_an_example_or_is_invalid(schema: Any) -> None:
    with suppress(InvalidSchema):
        json.dumps(example(schema))


async def test_an_invalid_schema_is_refused(client: httpx.AsyncClient) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": 1}}}
    assert (await ask(client, body("call:f", tools=[tool]))).status_code == 400
