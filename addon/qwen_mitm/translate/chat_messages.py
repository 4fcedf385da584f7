"""The messages of a Chat request as JSON, each made once in a conversation.

The JSON of a message depends on the message, which is frozen, and on the host's profile. A turn of
a conversation that goes on (see past.py) has the very message objects of the one before, up to the
last ones, so these are compared by identity.
"""

from __future__ import annotations

from operator import is_
from typing import assert_never

from pydantic import JsonValue
from pydantic_core import to_json

from qwen_mitm.providers import Profile
from qwen_mitm.translate.host_rules import past_arguments, taken_parts
from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatAudio,
    ChatFile,
    ChatImage,
    ChatMessage,
    ChatPart,
    ChatText,
    ToolMessage,
    UserMessage,
)
from qwen_mitm.wire.response_object import JsonObject


class MessageTexts:
    """The JSON of one conversation's messages, kept for the next time."""

    def __init__(self) -> None:
        self._profile: Profile | None = None
        self._messages: tuple[ChatMessage, ...] = ()
        self._texts: list[bytes] = []
        self.size = 0

    def of(self, messages: tuple[ChatMessage, ...], profile: Profile) -> list[bytes]:
        """The JSON of each of these messages, for a host with this profile."""
        same = self._same(messages) if profile == self._profile else 0
        # NaN is no JSON, though parsers let it pass in audio.
        new = [
            to_json(_message(message, profile), inf_nan_mode="null") for message in messages[same:]
        ]
        self.size += sum(map(len, new)) - sum(map(len, self._texts[same:]))
        self._profile, self._messages = profile, messages
        self._texts[same:] = new
        return self._texts.copy()

    def _same(self, messages: tuple[ChatMessage, ...]) -> int:
        """How many of the first messages are those of the last time."""
        same = [*map(is_, self._messages, messages), False]
        return same.index(False)


def _message(message: ChatMessage, profile: Profile) -> JsonObject:
    match message:
        case UserMessage():
            return {"role": "user", "content": _user_content(message, profile)}
        case AssistantMessage():
            return _assistant(message, profile)
        case ToolMessage():
            return {
                "role": "tool",
                "tool_call_id": message.tool_call_id,
                "content": message.content,
            }
        case _:
            assert_never(message)


def _user_content(message: UserMessage, profile: Profile) -> JsonValue:
    parts = taken_parts(message, profile)
    texts = [part.text for part in parts if isinstance(part, ChatText)]
    if len(texts) == len(parts) and (len(texts) < 2 or profile.flat_user_text):
        return "\n".join(texts)
    return [_part(part) for part in parts]


def _part(part: ChatPart) -> JsonValue:
    match part:
        case ChatText():
            return {"type": "text", "text": part.text}
        case ChatImage():
            image: JsonObject = {"url": part.url}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case ChatFile():
            file: JsonObject = {"file_data": part.file_data}
            if part.filename is not None:
                file["filename"] = part.filename
            return {"type": "file", "file": file}
        case ChatAudio():
            return {"type": "input_audio", "input_audio": part.input_audio}
        case _:
            assert_never(part)


def _assistant(message: AssistantMessage, profile: Profile) -> JsonObject:
    sent: JsonObject = {"role": "assistant", "content": message.content}
    if message.reasoning is not None:
        sent.update(dict.fromkeys(profile.reasoning_fields, message.reasoning))
    if message.tool_calls:
        sent["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": past_arguments(call, profile)},
            }
            for call in message.tool_calls
        ]
    return sent
