"""What hosts answer 400 to, as assertions on a Chat request body (qwen.md §2.6-§2.10)."""

from __future__ import annotations

import json
import re
from typing import Any, Final

NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PARTS: Final = {"text": str, "image_url": dict, "input_audio": dict, "file": dict}
#: Model Studio's rules hold for all of these.
DASHSCOPE: Final = frozenset({"dashscope", "portal", "coding-plan", "token-plan"})
TAKE_AUDIO: Final = frozenset({"dashscope", "openrouter", "vllm", "sglang"})
KEYS: Final = frozenset(
    [
        "frequency_penalty",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "parallel_tool_calls",
        "presence_penalty",
        "response_format",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
    ]
)
#: What switches thinking, by host; what is in no list leaked from the Responses request.
_QWEN_KEYS: Final = frozenset(
    {"enable_thinking", "thinking_budget", "reasoning_effort", "preserve_thinking"}
)
THINKING_KEYS: Final = {
    **dict.fromkeys(DASHSCOPE, _QWEN_KEYS),
    # The one of them that searches the web.
    "dashscope": _QWEN_KEYS | {"enable_search"},
    "modelscope": {"enable_thinking", "thinking_budget", "reasoning_effort"},
    "openrouter": {"reasoning", "verbosity"},
    "vllm": {"chat_template_kwargs"},
    "sglang": {"chat_template_kwargs"},
    "llama.cpp": {"chat_template_kwargs"},
    "ollama": {"reasoning_effort"},
    "generic": {"reasoning_effort"},
}
MESSAGE_KEYS: Final = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "tool": {"role", "content", "tool_call_id"},
    "assistant": {"role", "content", "tool_calls", "reasoning_content", "reasoning"},
}


def check_chat(body: dict[str, Any], provider: str = "dashscope") -> None:
    """``AssertionError`` for a body that this host, or a strict one of its kind, would refuse."""
    unknown = body.keys() - KEYS - THINKING_KEYS[provider]
    assert not unknown, f"{sorted(unknown)} leaked to {provider}"
    assert body["model"]
    _check_conversation(body["messages"], provider)
    _check_tools(body)
    _check_numbers(body)
    assert body.get("stream", True) is True
    expected = {"include_usage": True} if "stream" in body else None
    assert body.get("stream_options") == expected, "usage is asked for on streams, and only there"
    if provider in DASHSCOPE:
        _check_thinking(body)


def _check_conversation(messages: list[dict[str, Any]], provider: str) -> None:
    roles = [message["role"] for message in messages]
    assert set(roles) <= MESSAGE_KEYS.keys()
    assert "system" not in roles[1:], "one system message, first"
    if provider in DASHSCOPE:
        assert "user" in roles, "a conversation needs a user message"
    if provider == "portal":
        _check_cached_system(messages[0])
    waiting: set[str] = set()
    before = ""
    for message in messages:
        role = message["role"]
        assert message.keys() <= MESSAGE_KEYS[role], f"a message of {role} is {message}"
        _check_content(message, provider)
        if role == "tool":
            assert message["tool_call_id"] in waiting, "an output follows its call"
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting, "every call is answered before the next turn"
            assert (before, role) != ("assistant", "assistant"), "one turn is one message"
            waiting |= _calls(message, provider)
        before = role
    assert not waiting, "every call is answered"


def _calls(message: dict[str, Any], provider: str) -> set[str]:
    ids: set[str] = set()
    for call in message.get("tool_calls", ()):
        assert call.keys() == {"id", "type", "function"}
        assert call["type"] == "function"
        assert call["function"].keys() == {"name", "arguments"}
        assert NAME.fullmatch(call["function"]["name"])
        arguments = call["function"]["arguments"]
        assert isinstance(arguments, str), "arguments are a string"
        assert arguments.strip(), "arguments are defined"
        if provider in DASHSCOPE:
            assert isinstance(json.loads(arguments), dict), "arguments are a JSON object"
        assert call["id"], "a call has an id"
        assert call["id"] not in ids, "a call has an id of its own"
        ids.add(call["id"])
    return ids


def _check_cached_system(message: dict[str, Any]) -> None:
    assert message["role"] == "system", "the portal wants a system message"
    first, *rest = message["content"]
    assert first == {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
    assert all(part.keys() == {"type", "text"} for part in rest)


def _check_content(message: dict[str, Any], provider: str) -> None:
    role, content = message["role"], message["content"]
    if role in {"assistant", "tool"}:
        assert isinstance(content, str), "null and lists are for others"
    if role == "assistant":
        assert content or message.get("tool_calls"), "an assistant says or calls something"
        assert message.get("tool_calls") != []
        thoughts = [message[key] for key in ("reasoning_content", "reasoning") if key in message]
        assert all(isinstance(thought, str) and thought for thought in thoughts)
    if isinstance(content, str):
        return
    assert content
    kinds = {part["type"] for part in content}
    if provider == "portal" and role == "user":
        assert kinds != {"text"}, "texts alone are a plain string"
    if provider not in TAKE_AUDIO:
        assert "input_audio" not in kinds, f"{provider} takes no audio"
    if provider != "openrouter":
        assert "file" not in kinds, f"{provider} takes no files"
    for part in content:
        assert part.keys() - {"cache_control"} == {"type", part["type"]}
        assert isinstance(part[part["type"]], PARTS[part["type"]])
        if part["type"] == "image_url":
            assert part["image_url"]["url"]
            assert part["image_url"].get("detail") in (None, "low", "high", "auto")


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        assert "tool_choice" not in body
        assert "parallel_tool_calls" not in body
        return
    for tool in tools:
        assert tool.keys() == {"type", "function"}
        assert tool["type"] == "function"
        assert tool["function"].keys() <= {"name", "description", "parameters", "strict"}
    names = [tool["function"]["name"] for tool in tools]
    assert names
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    assert all(tool["function"]["parameters"]["type"] == "object" for tool in tools)
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        assert choice == {"type": "function", "function": {"name": choice["function"]["name"]}}
        assert choice["function"]["name"] in names
    else:
        assert choice in {"auto", "none", "required"}


def _check_numbers(body: dict[str, Any]) -> None:
    assert None not in body.values(), "null is for what was left out"
    for key in ("max_tokens", "max_completion_tokens"):
        assert type(body.get(key, 1)) is int
        assert body.get(key, 1) > 0
    if "top_logprobs" in body:
        assert body["logprobs"] is True, "alternatives are of log probabilities"
    if "response_format" in body:
        kind = body["response_format"]["type"]
        assert kind in {"json_object", "json_schema"}
        assert (kind == "json_schema") == ("json_schema" in body["response_format"])


def _check_thinking(body: dict[str, Any]) -> None:
    """Model Studio's rules for thinking (qwen.md §2.6 tool_choice, §2.7, §2.8)."""
    model = body["model"]
    effort = body.get("reasoning_effort")
    coder = model.startswith("qwen3-coder")
    if coder:
        leaked = {"enable_thinking", "thinking_budget", "reasoning_effort"} & body.keys()
        assert not leaked, f"{model} does not think"
    if effort is not None:
        assert model.startswith("qwen3.8"), f"{model} knows no reasoning_effort"
        levels = {"none", "low", "medium", "xhigh"}
        levels |= {"high"} if model.startswith("qwen3.8-max") else set()
        assert effort in levels
        assert not {"enable_thinking", "thinking_budget"} & body.keys()
    if body.get("enable_thinking") or effort not in (None, "none"):
        assert body.get("stream"), "some models think only in a stream"
    if "thinking_budget" in body:
        assert body["enable_thinking"] is True
        assert body["thinking_budget"] > 0
    thinks = not coder and body.get("enable_thinking") is not False and effort != "none"
    choice = body.get("tool_choice")
    if thinks:
        assert choice in (None, "auto", "none"), "no forced choice while it thinks"
    thoughts = any("reasoning_content" in message for message in body["messages"])
    assert body.get("preserve_thinking", False) is thoughts, "thoughts of the history are kept"
