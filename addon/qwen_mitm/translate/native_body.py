"""The request for a host that speaks Responses itself, as bytes (qwen.md §2.9).

It has the whole conversation: the state is ours, and nothing of it is kept there. Tools that only
the client knows are functions, as in Chat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from pydantic import JsonValue
from pydantic_core import to_json

from qwen_mitm.providers import Profile
from qwen_mitm.translate.host_rules import (
    ADDED_USER_TEXT,
    COMMON_EFFORT,
    OPENROUTER_EFFORT,
    drops_choice,
    effort_of_qwen_38,
    lacks_user,
    must_stream,
    past_arguments,
    system_text,
    taken_parts,
)
from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatAudio,
    ChatFile,
    ChatImage,
    ChatPart,
    ChatRequest,
    ChatText,
    ChatToolChoice,
    FunctionDefinition,
    HostedChoice,
    NamedFunction,
    ToolMessage,
    UserMessage,
)
from qwen_mitm.wire.response_object import JsonObject

_LOGPROBS: Final = "message.output_text.logprobs"
_ENCRYPTED: Final = "reasoning.encrypted_content"


def native_body(chat: ChatRequest, profile: Profile, *, stream: bool, encrypted: bool) -> bytes:
    """The JSON body for one attempt; ``encrypted``: thoughts are kept for the next turn."""
    include: list[JsonValue] = [_LOGPROBS] if chat.logprobs else []
    if encrypted:
        include.append(_ENCRYPTED)
    tools: list[JsonValue] = [*map(_tool, chat.tools), *chat.hosted_tools]
    choice = None if drops_choice(chat, profile) else chat.tool_choice
    optional: dict[str, JsonValue] = {
        "tools": tools or None,
        "tool_choice": None if choice is None or not tools else _tool_choice(choice),
        "parallel_tool_calls": chat.parallel_tool_calls if chat.tools else None,
        "max_output_tokens": chat.max_tokens,
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "presence_penalty": chat.presence_penalty,
        "frequency_penalty": chat.frequency_penalty,
        "top_logprobs": chat.top_logprobs,
        "text": _text(chat, profile) or None,
        "reasoning": _reasoning(chat, profile) or None,
        "include": include or None,
        "stream": stream or must_stream(chat, profile) or None,
    }
    body: JsonObject = {"model": chat.model, "input": _input(chat, profile), "store": False}
    body.update((name, value) for name, value in optional.items() if value is not None)
    # NaN is no JSON, though parsers let it pass in schemas.
    return to_json(body, inf_nan_mode="null")


def _input(chat: ChatRequest, profile: Profile) -> list[JsonValue]:
    items: list[JsonValue] = []
    system = system_text(chat, profile)
    if system is not None:
        # Model Studio ignored `instructions` for long; a system message is read by all.
        items.append(_message("system", [_said("input_text", system)]))
    if lacks_user(chat, profile):
        items.append(_message("user", [_said("input_text", ADDED_USER_TEXT)]))
    for message in chat.messages:
        for item in _items(message, profile):
            if profile.item_ids:
                item["id"] = f"{_PREFIXES[str(item['type'])]}_{len(items)}"
                if item["type"] != "reasoning":
                    item["status"] = "completed"
            items.append(item)
    return items


_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
}


def _items(
    message: UserMessage | AssistantMessage | ToolMessage, profile: Profile
) -> Iterator[JsonObject]:
    match message:
        case UserMessage():
            yield _message("user", [_part(part) for part in taken_parts(message, profile)])
        case AssistantMessage():
            yield from _turn(message, profile)
        case ToolMessage():
            yield {
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": message.content,
            }
        case _:
            assert_never(message)


def _turn(message: AssistantMessage, profile: Profile) -> Iterator[JsonObject]:
    for thought in message.encrypted:
        yield {
            **_thought(thought.summary),
            "encrypted_content": thought.encrypted_content,
        }
    if message.reasoning is not None:
        yield _thought(message.reasoning)
    if message.content:
        text: JsonObject = {**_said("output_text", message.content), "annotations": []}
        yield _message("assistant", [text])
    for call in message.tool_calls:
        yield {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": past_arguments(call, profile),
        }


def _message(role: str, content: list[JsonValue]) -> JsonObject:
    return {"type": "message", "role": role, "content": content}


def _thought(text: str) -> JsonObject:
    return {"type": "reasoning", "summary": [_said("summary_text", text)] if text else []}


def _said(kind: str, text: str) -> JsonObject:
    return {"type": kind, "text": text}


def _part(part: ChatPart) -> JsonValue:
    match part:
        case ChatText():
            return _said("input_text", part.text)
        case ChatImage():
            # Required by OpenAI's type.
            return {
                "type": "input_image",
                "image_url": part.url,
                "detail": part.detail or "auto",
            }
        case ChatFile():
            file: JsonObject = {"type": "input_file", "file_data": part.file_data}
            return file if part.filename is None else {**file, "filename": part.filename}
        case ChatAudio():
            return {"type": "input_audio", "input_audio": part.input_audio}
        case _:
            assert_never(part)


def _tool(tool: FunctionDefinition) -> JsonObject:
    function: JsonObject = {"type": "function", "name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function


def _tool_choice(choice: ChatToolChoice) -> JsonValue:
    match choice:
        case NamedFunction(name):
            return {"type": "function", "name": name}
        case HostedChoice(type=kind):
            return {"type": kind}
        case _:
            return choice


def _text(chat: ChatRequest, profile: Profile) -> JsonObject:
    text: JsonObject = {}
    match chat.response_format:
        case {"json_schema": dict(schema)}:
            text["format"] = {"type": "json_schema", **schema}
        case dict(wanted):
            text["format"] = wanted
    if chat.verbosity is not None and profile.takes_verbosity:
        text["verbosity"] = chat.verbosity
    return text


def _reasoning(chat: ChatRequest, profile: Profile) -> JsonObject:
    reasoning: JsonObject = {}
    if chat.effort is not None and not chat.model.startswith("qwen3-coder"):
        reasoning["effort"] = _effort(chat.model, chat.effort, profile)
    if chat.reasoning_summary is not None:
        reasoning["summary"] = chat.reasoning_summary
    return reasoning


def _effort(model: str, effort: str, profile: Profile) -> str:
    if profile.thinking == "reasoning":
        return OPENROUTER_EFFORT.get(effort, effort)
    if model.startswith("qwen3.8"):
        return effort_of_qwen_38(model, effort)
    return COMMON_EFFORT.get(effort, effort)
