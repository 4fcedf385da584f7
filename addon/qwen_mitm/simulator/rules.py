"""The upstream's own rules: what Model Studio answers 400 to (qwen.md 2.6 and 2.7).

Wordings that the catalogue lacks are from reports of users: the role (Codex with ``developer``),
``[] is too short - 'tools'``, arguments "of the code model", a tool_choice that names no tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .refusals import ALGO, Refusal, invalid_parameter, refusal

# The body is whatever the client sent: anything is possible.
type Body = Mapping[str, Any]

ROLES = ["system", "assistant", "user", "tool", "function"]
PART_TYPES = {"video_url", "video", "input_audio", "file"}
_LIMIT = re.compile(r"\bsim-(?:[^/]*\+)?limit-(\d+)")


def check(body: Any, limits: Mapping[str, int]) -> Refusal | None:
    """The refusal of the first rule that the request breaks."""
    if not isinstance(body, dict):
        return _schema("Request body must be a JSON object.")
    if not isinstance(body.get("model"), str):
        return _schema("you must provide a model parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return _schema("'messages' is a required property")
    if not messages:
        return _schema("[] is too short - 'messages'")
    return (
        _roles(messages)
        or _system(messages)
        or _parts(messages)
        or _calls(messages)
        or _pairs(messages)
        or _user(messages)
        or _tool_definitions(body.get("tools"))
        or _tool_choice(body)
        or _response_format(body.get("response_format"), messages)
        or _thinking(body)
        or _length(body, limits)
    )


def _schema(message: str) -> Refusal:
    return refusal(400, message)


def _roles(messages: list[Body]) -> Refusal | None:
    for index, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            return _schema(f"{role} is not one of {ROLES} - 'messages.[{index}].role'")
    return None


def _system(messages: list[Body]) -> Refusal | None:
    if any(message["role"] == "system" for message in messages[1:]):
        return invalid_parameter("System message must be at the beginning.")
    return None


def _parts(messages: list[Body]) -> Refusal | None:
    for index, message in enumerate(messages):
        content = message.get("content")
        if content is None:
            if message["role"] == "assistant" and message.get("tool_calls"):
                continue
            return _schema(f"None is not of type 'string' - 'messages.[{index}].content'")
        if isinstance(content, list) and not all(_known(part) for part in content):
            return refusal(
                400,
                ALGO + "[Unexpected item type in content.]",
                kind="invalid_parameter_error",
                code="invalid_parameter",
            )
        if not isinstance(content, str | list):
            return _schema(f"{content} is not of type 'string' - 'messages.[{index}].content'")
    return None


def _known(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return isinstance(part.get("text"), str)
    if kind == "image_url":
        image = part.get("image_url")
        return isinstance(image.get("url") if isinstance(image, dict) else image, str)
    return isinstance(kind, str) and kind in PART_TYPES and kind in part


def _calls(messages: list[Body]) -> Refusal | None:
    for message in messages:
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or not all(_is_call(call) for call in calls):
            return _schema("'id', 'type' and 'function' are required properties of a tool call")
        for call in calls:
            function = call["function"]
            if not isinstance(function.get("arguments"), str):
                return invalid_parameter(
                    "If tool_calls are present in the message, function.arguments must be defined."
                )
            try:
                arguments = json.loads(function["arguments"])
            except ValueError:
                arguments = None
            if not isinstance(arguments, dict):
                return invalid_parameter(
                    'The "function.arguments" parameter of the code model must be in JSON format.'
                )
    return None


def _is_call(call: Any) -> bool:
    return (
        isinstance(call, dict)
        and isinstance(call.get("id"), str)
        and call.get("type") == "function"
        and isinstance(call.get("function"), dict)
    )


def _pairs(messages: list[Body]) -> Refusal | None:
    """Calls are answered by the tool messages right behind them, and tool messages answer calls."""
    open_calls: set[str] = set()
    answered: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str) or call_id not in open_calls | answered:
                return invalid_parameter(
                    'messages with role "tool" must be a response to a preceeding message with'
                    ' "tool_calls".'
                )
            open_calls.discard(call_id)
            answered.add(call_id)
            continue
        if open_calls:
            return _unanswered(index)
        answered = set()
        open_calls = {call["id"] for call in message.get("tool_calls") or []}
    return _unanswered(len(messages)) if open_calls else None


def _unanswered(index: int) -> Refusal:
    return invalid_parameter(
        'An assistant message with "tool_calls" must be followed by tool messages responding to'
        ' each "tool_call_id". The following tool_call_ids did not have response messages:'
        f" message[{index}].role"
    )


def _user(messages: list[Body]) -> Refusal | None:
    if any(message["role"] == "user" for message in messages):
        return None
    return invalid_parameter("The input messages do not contain elements with the role of user")


def _tool_definitions(tools: Any) -> Refusal | None:
    if tools is None:
        return None
    if tools == []:
        return _schema("[] is too short - 'tools'")
    if not isinstance(tools, list):
        return _schema(f"{tools} is not of type 'array' - 'tools'")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return _schema(f"'name' is a required property - 'tools.[{index}].function'")
        if tool.get("type") != "function":
            kind = tool.get("type")
            return _schema(f"{kind} is not one of ['function'] - 'tools.[{index}].type'")
    return None


def _response_format(wanted: Any, messages: list[Body]) -> Refusal | None:
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind not in ("text", "json_object", "json_schema"):
        known = ["text", "json_object", "json_schema"]
        return _schema(f"{kind} is not one of {known} - 'response_format.type'")
    if kind == "json_schema" and not isinstance(wanted.get("json_schema"), dict):
        return _schema("'json_schema' is a required property - 'response_format'")
    said = [message["content"] for message in messages if message["role"] in ("system", "user")]
    if kind == "json_object" and "json" not in json.dumps(said).lower():
        return invalid_parameter(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of"
            " type 'json_object'."
        )
    return None


def _tool_choice(body: Body) -> Refusal | None:
    tools = body.get("tools")
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if not tools:
        return invalid_parameter('When using "tool_choice", "tools" must be set.')
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if name not in [tool["function"]["name"] for tool in tools]:
            return invalid_parameter(
                f'Invalid value for "tool_choice": no function named "{name}" was specified in the'
                ' "tools" parameter.'
            )
    return None


def thinks(body: Body) -> bool:
    """Whether the request asks for thinking, or its model always thinks (qwen.md 2.8)."""
    if isinstance(body.get("enable_thinking"), bool):
        return bool(body["enable_thinking"])
    template = body.get("chat_template_kwargs")
    if isinstance(template, dict) and "enable_thinking" in template:
        return bool(template["enable_thinking"])
    effort = body.get("reasoning_effort")
    reasoning = body.get("reasoning")
    if isinstance(reasoning, dict):
        effort = "none" if reasoning.get("enabled") is False else reasoning.get("effort", "medium")
    if effort is not None:
        return effort not in ("none", "")
    return "thinking" in body["model"]


def _thinking(body: Body) -> Refusal | None:
    if body.get("reasoning_effort") is not None and body.get("thinking_budget") is not None:
        return invalid_parameter(
            "reasoning_effort and thinking_budget cannot be set at the same time"
        )
    if body.get("enable_thinking") is True and body.get("stream") is not True:
        return invalid_parameter(
            "parameter.enable_thinking must be set to false for non-streaming calls", prefix=""
        )
    choice = body.get("tool_choice")
    if thinks(body) and (choice == "required" or isinstance(choice, dict)):
        return invalid_parameter(
            "The tool_choice parameter does not support being set to required or object in"
            " thinking mode"
        )
    return None


def _length(body: Body, limits: Mapping[str, int]) -> Refusal | None:
    """Limits count characters of the messages: close enough to tokens, and easy to aim at."""
    model: str = body["model"]
    named = _LIMIT.search(model)
    limit = int(named[1]) if named else limits.get(model)
    if limit is not None and len(json.dumps(body["messages"], ensure_ascii=False)) > limit:
        return invalid_parameter(f"Range of input length should be [1, {limit}]")
    return None
