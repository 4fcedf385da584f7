"""The Chat request in the dialect of one host, as bytes (qwen.md §2.6, §2.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from qwen_mitm.providers import Profile
from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatAudio,
    ChatFile,
    ChatImage,
    ChatPart,
    ChatRequest,
    ChatText,
    FunctionDefinition,
    NamedFunction,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from qwen_mitm.wire.response_object import JsonObject

_AUDIO_PLACEHOLDER: Final = "[audio omitted: provider does not support input_audio]"
_CLIENTS_NAME: Final = {"max_tokens": "max_output_tokens", "logprobs": "top_logprobs"}
_ADDED_USER_TEXT: Final = "Continue."
_ADDED_SYSTEM_TEXT: Final = "Answer with a JSON object."
# Tokens that a level may think for; the higher levels have no limit.
_THINKING_BUDGET: Final = {"minimal": 1024, "low": 1024, "medium": 8192}
_COMMON_EFFORT: Final = {"minimal": "low", "xhigh": "high", "max": "high", "ultra": "high"}
_OPENROUTER_EFFORT: Final = {"max": "xhigh", "ultra": "xhigh"}
_QWEN_38_EFFORT: Final = {"minimal": "low", "high": "xhigh", "max": "xhigh", "ultra": "xhigh"}


def chat_body(chat: ChatRequest, profile: Profile, *, stream: bool) -> bytes:
    """The JSON body for one attempt.

    It asks for a stream also when the client wants none, if the host thinks or answers only so.
    """
    body: JsonObject = {"model": chat.model, "messages": _messages(chat, profile)}
    tools = chat.tools if profile.heeds_choice or chat.tool_choice != "none" else ()
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
        if chat.tool_choice is not None and not _drops_choice(chat, profile):
            body["tool_choice"] = _tool_choice(chat.tool_choice)
    optional: dict[str, JsonValue] = {
        "parallel_tool_calls": chat.parallel_tool_calls if tools else None,
        profile.max_tokens_field: chat.max_tokens,
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "presence_penalty": chat.presence_penalty,
        "frequency_penalty": chat.frequency_penalty,
        "logprobs": chat.logprobs or None,
        "top_logprobs": chat.top_logprobs,
        "response_format": chat.response_format,
        "verbosity": chat.verbosity if profile.takes_verbosity else None,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    body.update(_thinking(chat, profile))
    if stream or _must_stream(chat, profile):
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    # NaN is no JSON, though parsers let it pass in schemas.
    return to_json(body, inf_nan_mode="null")


def host_losses(chat: ChatRequest, profile: Profile) -> Iterator[tuple[str, str]]:
    """Code and name of what this host does not get as the client sent it."""
    if not profile.takes_audio and _has(chat, ChatAudio):
        yield "dropped_content", "input_audio"
    if not profile.takes_images and _has(chat, ChatImage):
        yield "dropped_content", "input_image"
    for name in profile.ignores:
        if getattr(chat, name) not in (None, False):
            yield "dropped_field", _CLIENTS_NAME.get(name, name)
    if _drops_choice(chat, profile):
        yield "dropped_field", "tool_choice"
    if _lacks_user(chat, profile):
        yield "added_message", "user"
    if _lacks_json_word(chat, profile):
        yield "added_text", "json"


def _has(chat: ChatRequest, kind: type[ChatPart]) -> bool:
    return any(
        isinstance(part, kind)
        for message in chat.messages
        if isinstance(message, UserMessage)
        for part in message.content
    )


def _messages(chat: ChatRequest, profile: Profile) -> list[JsonValue]:
    messages: list[JsonValue] = []
    system = chat.system
    if _lacks_json_word(chat, profile):
        system = "\n\n".join(filter(None, (system, _ADDED_SYSTEM_TEXT)))
    if profile.cached_system:
        messages.append({"role": "system", "content": _cached_system(system)})
    elif system is not None:
        messages.append({"role": "system", "content": system})
    if _lacks_user(chat, profile):
        messages.append({"role": "user", "content": _ADDED_USER_TEXT})
    for message in chat.messages:
        match message:
            case UserMessage():
                messages.append({"role": "user", "content": _user_content(message, profile)})
            case AssistantMessage():
                messages.append(_assistant(message, profile))
            case ToolMessage():
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": message.tool_call_id,
                        "content": message.content,
                    }
                )
            case _:
                assert_never(message)
    return messages


def _cached_system(system: str | None) -> list[JsonValue]:
    first: JsonObject = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
    return [first] if system is None else [first, {"type": "text", "text": system}]


def _lacks_user(chat: ChatRequest, profile: Profile) -> bool:
    return profile.needs_user_message and not any(
        isinstance(message, UserMessage) for message in chat.messages
    )


def _lacks_json_word(chat: ChatRequest, profile: Profile) -> bool:
    """What the model says itself does not count, and tools neither."""
    if not profile.needs_json_word or chat.response_format is None:
        return False
    said = [part for it in chat.messages if isinstance(it, UserMessage) for part in it.content]
    texts = [part.text for part in said if isinstance(part, ChatText)]
    return not any("json" in text.lower() for text in (chat.system or "", *texts))


def _user_content(message: UserMessage, profile: Profile) -> JsonValue:
    parts = [
        ChatText(_AUDIO_PLACEHOLDER)
        if isinstance(part, ChatAudio) and not profile.takes_audio
        else part
        for part in message.content
    ]
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
                "function": {"name": call.name, "arguments": _arguments(call, profile)},
            }
            for call in message.tool_calls
        ]
    return sent


def _arguments(call: ToolCall, profile: Profile) -> str:
    if not profile.json_arguments:
        return call.arguments
    try:
        if isinstance(from_json(call.arguments, allow_inf_nan=False), dict):
            return call.arguments
    except ValueError:
        pass
    return to_json({"invalid_arguments": call.arguments}).decode()


def _tool(tool: FunctionDefinition) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: str | NamedFunction) -> JsonValue:
    if isinstance(choice, NamedFunction):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _thinks(chat: ChatRequest) -> bool:
    """Hybrid models think unless told otherwise; only the coder models never do."""
    return chat.effort != "none" and not chat.model.startswith("qwen3-coder")


def _drops_choice(chat: ChatRequest, profile: Profile) -> bool:
    forced = chat.tool_choice == "required" or isinstance(chat.tool_choice, NamedFunction)
    return forced and not profile.forced_choice_while_thinking and _thinks(chat)


def _must_stream(chat: ChatRequest, profile: Profile) -> bool:
    # Some models of Model Studio think only in a stream and answer 400 otherwise.
    thinks = profile.thinking == "enable_thinking" and chat.effort is not None and _thinks(chat)
    return profile.stream_only or thinks


def _thinking(chat: ChatRequest, profile: Profile) -> JsonObject:
    fields = _thinking_switch(chat, profile)
    if profile.preserves_thinking and any(
        isinstance(message, AssistantMessage) and message.reasoning is not None
        for message in chat.messages
    ):
        fields["preserve_thinking"] = True
    return fields


def _thinking_switch(chat: ChatRequest, profile: Profile) -> JsonObject:
    effort = chat.effort
    if effort is None:
        return {}
    match profile.thinking:
        case "enable_thinking":
            return _enable_thinking(chat.model, effort)
        case "reasoning_effort":
            return {"reasoning_effort": _COMMON_EFFORT.get(effort, effort)}
        case "chat_template_kwargs":
            return {"chat_template_kwargs": {"enable_thinking": effort != "none"}}
        case "reasoning":
            return {"reasoning": {"effort": _OPENROUTER_EFFORT.get(effort, effort)}}
        case "none":
            return {}
        case _:
            assert_never(profile.thinking)


def _enable_thinking(model: str, effort: str) -> JsonObject:
    if model.startswith("qwen3-coder"):
        return {}
    if model.startswith("qwen3.8"):
        if effort == "high" and model.startswith("qwen3.8-max"):
            return {"reasoning_effort": "high"}
        return {"reasoning_effort": _QWEN_38_EFFORT.get(effort, effort)}
    if effort == "none":
        return {"enable_thinking": False}
    budget = _THINKING_BUDGET.get(effort)
    return (
        {"enable_thinking": True}
        if budget is None
        else {
            "enable_thinking": True,
            "thinking_budget": budget,
        }
    )
