"""What hosts ask of a request on whichever endpoint it is sent to (qwen.md §2.6-§2.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic_core import from_json, to_json

from qwen_mitm.providers import Profile
from qwen_mitm.wire.chat_request import (
    ChatAudio,
    ChatImage,
    ChatPart,
    ChatRequest,
    ChatText,
    ToolCall,
    UserMessage,
)

ADDED_USER_TEXT: Final = "Continue."
COMMON_EFFORT: Final = {"minimal": "low", "xhigh": "high", "max": "high", "ultra": "high"}
OPENROUTER_EFFORT: Final = {"max": "xhigh", "ultra": "xhigh"}
_ADDED_SYSTEM_TEXT: Final = "Answer with a JSON object."
_CLIENTS_NAME: Final = {"max_tokens": "max_output_tokens", "logprobs": "top_logprobs"}
_AUDIO_PLACEHOLDER: Final = "[audio omitted: provider does not support input_audio]"
_QWEN_38_EFFORT: Final = {"minimal": "low", "high": "xhigh", "max": "xhigh", "ultra": "xhigh"}


def host_losses(chat: ChatRequest, profile: Profile) -> Iterator[tuple[str, str]]:
    """Code and name of what this host does not get as the client sent it."""
    if not profile.takes_audio and _has(chat, ChatAudio):
        yield "dropped_content", "input_audio"
    if not profile.takes_images and _has(chat, ChatImage):
        yield "dropped_content", "input_image"
    for name in profile.ignores:
        if getattr(chat, name) not in (None, False):
            yield "dropped_field", _CLIENTS_NAME.get(name, name)
    if drops_choice(chat, profile):
        yield "dropped_field", "tool_choice"
    if lacks_user(chat, profile):
        yield "added_message", "user"
    if _lacks_json_word(chat, profile):
        yield "added_text", "json"


def system_text(chat: ChatRequest, profile: Profile) -> str | None:
    if not _lacks_json_word(chat, profile):
        return chat.system
    return "\n\n".join(filter(None, (chat.system, _ADDED_SYSTEM_TEXT)))


def _lacks_json_word(chat: ChatRequest, profile: Profile) -> bool:
    """What the model says itself does not count, and tools neither."""
    if not profile.needs_json_word or chat.response_format is None:
        return False
    said = [part for it in chat.messages if isinstance(it, UserMessage) for part in it.content]
    texts = [part.text for part in said if isinstance(part, ChatText)]
    return not any("json" in text.lower() for text in (chat.system or "", *texts))


def _has(chat: ChatRequest, kind: type[ChatPart]) -> bool:
    said = [message.content for message in chat.messages if isinstance(message, UserMessage)]
    return any(isinstance(part, kind) for parts in said for part in parts)


def lacks_user(chat: ChatRequest, profile: Profile) -> bool:
    return profile.needs_user_message and not any(
        isinstance(message, UserMessage) for message in chat.messages
    )


def taken_parts(message: UserMessage, profile: Profile) -> list[ChatPart]:
    """The parts of a message, with a text in the place of what the host does not take."""
    return [
        ChatText(_AUDIO_PLACEHOLDER)
        if isinstance(part, ChatAudio) and not profile.takes_audio
        else part
        for part in message.content
    ]


def past_arguments(call: ToolCall, profile: Profile) -> str:
    """The arguments of a call of the history."""
    if not profile.json_arguments:
        return call.arguments
    try:
        if isinstance(from_json(call.arguments, allow_inf_nan=False), dict):
            return call.arguments
    except ValueError:
        pass
    return to_json({"invalid_arguments": call.arguments}).decode()


def thinks(chat: ChatRequest) -> bool:
    """Hybrid models think unless told otherwise; only the coder models never do."""
    return chat.effort != "none" and not chat.model.startswith("qwen3-coder")


def drops_choice(chat: ChatRequest, profile: Profile) -> bool:
    """Whether the host refuses a forced ``tool_choice`` while it thinks."""
    forced = chat.tool_choice == "required" or not (
        chat.tool_choice is None or isinstance(chat.tool_choice, str)
    )
    return forced and not profile.forced_choice_while_thinking and thinks(chat)


def must_stream(chat: ChatRequest, profile: Profile) -> bool:
    """Whether the host has to stream although the client does not want it."""
    # Some models of Model Studio think only in a stream and answer 400 otherwise.
    asked = profile.thinking == "enable_thinking" and chat.effort is not None
    return profile.stream_only or (asked and thinks(chat))


def effort_of_qwen_38(model: str, effort: str) -> str:
    if effort == "high" and model.startswith("qwen3.8-max"):
        return "high"
    return _QWEN_38_EFFORT.get(effort, effort)
