from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.chat_checker import check_chat
from tests.event_checker import FAULTS
from tests.translate.sending import assistant, call, output, sent, thought, user

type Body = dict[str, Any]

TOOL = {"type": "function", "name": "f"}
REQUEST: Body = {
    "model": "qwen3.7-plus",
    "instructions": "Be brief.",
    "input": [user("go"), thought("Hm."), call("a"), output("a"), assistant("Done."), user("on")],
    "tools": [TOOL],
    "tool_choice": "auto",
    "reasoning": {"effort": "low"},
}


def put(*path: str | int, to: object) -> Callable[[Body], None]:
    def fault(body: Body) -> None:
        *outer, last = path
        value: Any = body
        for key in outer:
            value = value[key]
        value[last] = to

    return fault


def without(*path: str | int) -> Callable[[Body], None]:
    def fault(body: Body) -> None:
        *outer, last = path
        value: Any = body
        for key in outer:
            value = value[key]
        del value[last]

    return fault


CALL = ("messages", 2, "tool_calls", 0)


@pytest.mark.parametrize(
    "fault",
    [
        put("store", to=False),
        put("reasoning", to={"effort": "low"}),
        put("temperature", to=None),
        put("model", to=""),
        without("stream"),
        without("stream_options"),
        without("preserve_thinking"),
        put("tool_choice", to="required"),
        put("tool_choice", to={"type": "function", "function": {"name": "g"}}),
        put("reasoning_effort", to="low"),
        put("enable_thinking", to=False),
        put("thinking_budget", to=0),
        put("model", to="qwen3-coder-plus"),
        put("top_logprobs", to=2),
        put("max_tokens", to=0),
        put("response_format", to={"type": "json_schema"}),
        put("tools", to=[]),
        without("tools"),
        put("tools", 0, "function", "name", to="m.x"),
        put("tools", 0, "function", "parameters", to={"type": "array"}),
        put("tools", 0, "defer_loading", to=True),
        put("messages", 0, "role", to="developer"),
        put("messages", 1, "role", to="system"),
        put("messages", 1, "name", to="x"),
        put("messages", 1, "content", to=[]),
        put("messages", 1, "content", to=[{"type": "input_text", "text": "go"}]),
        put("messages", 1, "content", to=[{"type": "file", "file": {}}]),
        put("messages", 2, "content", to=None),
        put("messages", 2, "reasoning_content", to=""),
        put("messages", 2, "tool_calls", to=[]),
        put(*CALL, "function", "arguments", to=""),
        put(*CALL, "function", "arguments", to="not json"),
        put(*CALL, "function", "arguments", to={}),
        put(*CALL, "id", to=""),
        put("messages", 3, "tool_call_id", to="b"),
        without("messages", 3),
        put("messages", 5, to={"role": "assistant", "content": "More."}),
        lambda body: body.update(messages=[m for m in body["messages"] if m["role"] != "user"]),
    ],
)
def test_what_a_strict_host_would_refuse_is_found(fault: Callable[[Body], None]) -> None:
    body = sent(REQUEST, provider="dashscope", stream=True)
    check_chat(body)
    wrong = deepcopy(body)
    fault(wrong)
    with pytest.raises(FAULTS):
        check_chat(wrong)


@pytest.mark.parametrize(
    "fault",
    [
        without("messages", 0),
        put("messages", 0, "content", to="Be brief."),
        put("messages", 1, "content", to=[{"type": "text", "text": "go"}]),
        put("messages", 1, "content", to=[{"type": "input_audio", "input_audio": {}}]),
    ],
)
def test_what_the_portal_would_refuse_is_found(fault: Callable[[Body], None]) -> None:
    body = sent(REQUEST, provider="portal", stream=True)
    check_chat(body, "portal")
    wrong = deepcopy(body)
    fault(wrong)
    with pytest.raises(FAULTS):
        check_chat(wrong, "portal")
