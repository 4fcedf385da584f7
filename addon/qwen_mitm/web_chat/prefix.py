"""What a chat is found by again: the whole conversation up to the model's last answer. Pure.

The same opening, another system text (a title request), an edited, forked or compacted history:
each has a key of its own (web-chat.md §6, §10 defect 9). Thoughts do not count, since clients need
not send them back, and neither do the ids of calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import assert_never

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatAudio,
    ChatFile,
    ChatImage,
    ChatMessage,
    ChatPart,
    ChatRequest,
    ChatText,
    ToolCall,
    ToolMessage,
    UserMessage,
)

from .prompt import start_of_news


def conversation_key(chat: ChatRequest) -> str:
    """Of all that is said so far."""
    return _key(chat, chat.messages)


def prefix_key(chat: ChatRequest) -> str | None:
    """Of what was said up to the model's last answer; None: it has not answered yet."""
    start = start_of_news(chat.messages)
    return _key(chat, chat.messages[:start]) if start else None


def key_after(chat: ChatRequest, answer: AssistantMessage) -> str:
    """The prefix key of a request that goes on after this answer."""
    return _key(chat, (*chat.messages, answer))


def _key(chat: ChatRequest, messages: Sequence[ChatMessage]) -> str:
    places: dict[str, int] = {}
    for message in messages:
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls:
                places[call.id] = len(places)
    # A choice of none hides the tools from the first message.
    tools = [] if chat.tool_choice == "none" else chat.tools
    head: list[JsonValue] = [
        chat.model,
        chat.system,
        [[tool.name, tool.description, tool.parameters] for tool in tools],
    ]
    digest = hashlib.sha256()
    for piece in (head, *(_essence(message, places) for message in messages)):
        data = to_json(piece, inf_nan_mode="null")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def _essence(message: ChatMessage, places: dict[str, int]) -> list[JsonValue]:
    match message:
        case UserMessage(content):
            return ["user", *(_part(part) for part in content)]
        case AssistantMessage(content, _, calls):
            # Clients trim texts, and print arguments anew.
            return ["assistant", content.strip(), *(_call(call) for call in calls)]
        case ToolMessage(call_id, content):
            return ["tool", places[call_id], content]
        case _:
            assert_never(message)


def _call(call: ToolCall) -> JsonValue:
    try:
        arguments: JsonValue = from_json(call.arguments, allow_inf_nan=False)
    except ValueError:
        arguments = call.arguments
    return [call.name, _sorted(arguments)]


def _sorted(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    return value


def _part(part: ChatPart) -> JsonValue:
    match part:
        case ChatText(text):
            return text
        case ChatImage(url):
            return ["image", url]
        case ChatFile(data, _):
            return ["file", data]
        case ChatAudio(audio):
            return ["audio", audio]
        case _:
            assert_never(part)
