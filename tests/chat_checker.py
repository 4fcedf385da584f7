"""What DashScope answers 400 to, as assertions on a Chat request body (qwen.md §2.6, §2.7)."""

from __future__ import annotations

import json
import re
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PART_TYPES = {"text", "image_url", "input_audio", "file"}


def check_chat(body: dict[str, Any]) -> None:
    """``AssertionError`` for a body that a strict host would refuse."""
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    assert set(roles) <= {"system", "user", "assistant", "tool"}
    assert "system" not in roles[1:], "one system message, first"
    assert "user" in roles, "a conversation needs a user message"
    waiting: set[str] = set()
    for message in messages:
        _check_content(message)
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting, "an output follows its call"
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, "every call is answered before the next turn"
        for call in message.get("tool_calls", ()):
            assert call["type"] == "function"
            assert NAME.fullmatch(call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert call["id"] not in waiting
            waiting.add(call["id"])
    assert not waiting, "every call is answered"
    _check_tools(body)


def _check_content(message: dict[str, Any]) -> None:
    content = message["content"]
    if message["role"] in {"assistant", "tool"}:
        assert isinstance(content, str)
    if message["role"] == "assistant":
        assert content or message.get("tool_calls"), "an assistant says or calls something"
        assert message.get("tool_calls") != []
    if isinstance(content, str):
        return
    assert content
    for part in content:
        assert part["type"] in PART_TYPES
        assert isinstance(part[part["type"]], str if part["type"] == "text" else dict)


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        assert "tool_choice" not in body
        assert "parallel_tool_calls" not in body
        return
    names = [tool["function"]["name"] for tool in tools]
    assert names
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    assert all(tool["function"]["parameters"]["type"] == "object" for tool in tools)
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        assert choice["function"]["name"] in names
    else:
        assert choice in {"auto", "none", "required"}
