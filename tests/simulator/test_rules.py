from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.simulator.behaviours import cook
from qwen_mitm.simulator.rules import check
from qwen_mitm.simulator.schema import InvalidSchema

from .chat import WEATHER, ask, body

USER = {"role": "user", "content": "hi"}
TOOL = {"role": "tool", "tool_call_id": "c1", "content": "22"}


def calling(*ids: str, **function: Any) -> dict[str, Any]:
    given_function = {"name": "f", "arguments": "{}"} | function
    calls = [{"id": i, "type": "function", "function": given_function} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def message_of(document: Any) -> tuple[int, str]:
    refusal = check(document, {"small": 100})
    assert refusal is not None
    return refusal.status, json.loads(refusal.body)["error"]["message"]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([USER, TOOL], 'messages with role "tool" must be a response to a preceeding message'),
        ([USER, calling("c1"), TOOL, USER, TOOL], 'messages with role "tool" must be a response'),
        ([USER, calling("c1"), USER], "did not have response messages: message[2].role"),
        ([USER, calling("c1", "c2"), TOOL, USER], "did not have response messages: message[3]"),
        ([USER, calling("c1")], "did not have response messages: message[2].role"),
        ([USER, {"role": "system", "content": "x"}], "System message must be at the beginning."),
        (
            [{"role": "system", "content": "x"}, {"role": "system", "content": "y"}, USER],
            "System message must be at the beginning.",
        ),
        (
            [USER, calling("c1", arguments=None), TOOL],
            "If tool_calls are present in the message, function.arguments must be defined.",
        ),
        (
            [USER, calling("c1", arguments="{"), TOOL],
            'The "function.arguments" parameter of the code model must be in JSON format.',
        ),
        (
            [USER, calling("c1", arguments="[]"), TOOL],
            'The "function.arguments" parameter of the code model must be in JSON format.',
        ),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
            "[Unexpected item type in content.]",
        ),
        (
            [{"role": "assistant", "content": "x"}],
            "The input messages do not contain elements with the role of user",
        ),
        (
            [{"role": "developer", "content": "x"}, USER],
            "developer is not one of ['system', 'assistant', 'user', 'tool', 'function'] -"
            " 'messages.[0].role'",
        ),
    ],
)
def test_messages_that_break_a_rule_are_refused_in_its_words(
    messages: list[Any], words: str
) -> None:
    status, message = message_of(body(messages=messages))
    assert status == 400
    assert words in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": []}, "[] is too short - 'tools'"),
        ({"tool_choice": "auto"}, '"tools" must be set'),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            'no function named "x" was specified',
        ),
        (
            {"tools": [WEATHER], "tool_choice": "required", "enable_thinking": True},
            "does not support being set to required or object in thinking mode",
        ),
        (
            {"enable_thinking": True, "stream": False},
            "parameter.enable_thinking must be set to false for non-streaming calls",
        ),
        ({"reasoning_effort": "low", "thinking_budget": 9}, "at the same time"),
        (
            {"response_format": {"type": "json_object"}, "messages": [USER]},
            "'messages' must contain the word 'json' in some form",
        ),
        ({"model": "small", "messages": [USER] * 9}, "Range of input length should be [1, 100]"),
        ({"model": "sim-limit-50", "messages": [USER] * 9}, "length should be [1, 50]"),
        ({"model": "sim-reasoning+limit-50", "messages": [USER] * 9}, "should be [1, 50]"),
    ],
)
def test_parameters_that_break_a_rule_are_refused_in_its_words(
    fields: dict[str, Any], words: str
) -> None:
    status, message = message_of(body() | fields)
    assert status == 400
    assert words in message


def test_a_whole_conversation_with_parallel_calls_is_accepted() -> None:
    answers = [TOOL | {"tool_call_id": "c2"}, TOOL]
    system = {"role": "system", "content": [{"type": "text", "text": "x"}]}
    messages = [system, USER, calling("c1", "c2"), *answers, USER]
    assert check(body(messages=messages, tools=[WEATHER], tool_choice="auto"), {}) is None


async def test_rules_come_before_behaviours(client: httpx.AsyncClient) -> None:
    response = await ask(client, body(model="sim-429", tools=[]))
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["request_id"]


async def test_a_body_that_is_not_json_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/chat/completions", content=b"{")
    assert response.status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
VALUES = {
    "role": st.sampled_from(["system", "assistant", "user", "tool"]),
    "type": st.sampled_from(["function", "text", "image_url", "json_schema"]),
    "arguments": st.sampled_from(["", "{}", "{"]),
}
KEYS = [
    *("role", "content", "tool_calls", "tool_call_id", "id", "type", "function", "name"),
    *("arguments", "text", "image_url", "url", "json_schema", "schema", "required", "properties"),
]
FIELDS = [
    *("tools", "tool_choice", "response_format", "stream", "stream_options", "max_tokens"),
    *("reasoning", "chat_template_kwargs", "enable_thinking", "reasoning_effort", "logprobs"),
]
SHAPED = st.recursive(
    JSON,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({}, optional={k: VALUES.get(k, inner) for k in KEYS})
    ),
    max_leaves=12,
)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "thinking"]), "messages": st.lists(SHAPED, max_size=3)},
    optional={key: SHAPED | JSON for key in FIELDS},
)


@given(BODIES | JSON)
def test_no_request_confuses_the_simulator(document: Any) -> None:
    if check(document, {}) is None:
        with suppress(InvalidSchema):
            cook(document, "").performance()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tools": SHAPED | JSON,
            "tool_choice": SHAPED,
            "response_format": SHAPED,
            "messages": st.lists(SHAPED, max_size=3).map(lambda messages: [USER, *messages]),
        },
    )
)
def test_no_request_with_a_user_message_confuses_the_simulator(fields: Any) -> None:
    document = body() | fields
    if check(document, {}) is None:
        with suppress(InvalidSchema):
            cook(document, "").performance()
