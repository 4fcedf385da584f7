"""The Chat request in the dialect of one host, as bytes (qwen.md §2.6, §2.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from pydantic import JsonValue
from pydantic_core import to_json

from qwen_mitm.providers import Profile
from qwen_mitm.translate.chat_messages import MessageTexts
from qwen_mitm.translate.host_rules import (
    ADDED_USER_TEXT,
    COMMON_EFFORT,
    OPENROUTER_EFFORT,
    drops_choice,
    effort_of_qwen_38,
    lacks_user,
    must_stream,
    system_text,
)
from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatRequest,
    ChatToolChoice,
    FunctionDefinition,
    HostedChoice,
    NamedFunction,
)
from qwen_mitm.wire.response_object import JsonObject

# Tokens that a level may think for; the higher levels have no limit.
_THINKING_BUDGET: Final = {"minimal": 1024, "low": 1024, "medium": 8192}


def chat_body(
    chat: ChatRequest, profile: Profile, *, stream: bool, texts: MessageTexts | None = None
) -> bytes:
    """The JSON body for one attempt.

    It asks for a stream also when the client wants none, if the host thinks or answers only so.
    ``texts`` has what was made of the conversation before, and makes no other difference than time.
    """
    messages = [to_json(message) for message in _opening(chat, profile)]
    messages += (texts or MessageTexts()).of(chat.messages, profile)
    return _joined(to_json({"model": chat.model}), messages, _options(chat, profile, stream))


def _joined(model: bytes, messages: list[bytes], options: bytes) -> bytes:
    """One object of the members of both, with the messages between; they are copied once."""
    begin = b'%b,"messages":[' % model[:-1]
    end = b"]}" if options == b"{}" else b"],%b" % options[1:]
    if not messages:
        return begin + end
    messages[0] = begin + messages[0]
    messages[-1] += end
    return b",".join(messages)


def _options(chat: ChatRequest, profile: Profile, stream: bool) -> bytes:
    """All but the model and the messages."""
    body: JsonObject = {}
    tools = chat.tools if profile.heeds_choice or chat.tool_choice != "none" else ()
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
        if chat.tool_choice is not None and not drops_choice(chat, profile):
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
        # The one tool of a host's own that Chat knows.
        "enable_search": True if chat.hosted_tools else None,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    body.update(_thinking(chat, profile))
    if stream or must_stream(chat, profile):
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    # NaN is no JSON, though parsers let it pass in schemas.
    return to_json(body, inf_nan_mode="null")


def _opening(chat: ChatRequest, profile: Profile) -> Iterator[JsonObject]:
    """What is said before the conversation."""
    system = system_text(chat, profile)
    if profile.cached_system:
        yield {"role": "system", "content": _cached_system(system)}
    elif system is not None:
        yield {"role": "system", "content": system}
    if lacks_user(chat, profile):
        yield {"role": "user", "content": ADDED_USER_TEXT}


def _cached_system(system: str | None) -> list[JsonValue]:
    first: JsonObject = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
    return [first] if system is None else [first, {"type": "text", "text": system}]


def _tool(tool: FunctionDefinition) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ChatToolChoice) -> JsonValue:
    match choice:
        case NamedFunction(name):
            return {"type": "function", "function": {"name": name}}
        case HostedChoice(type=kind):
            raise ValueError(f"{kind} cannot be chosen in Chat")
        case _:
            return choice


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
            return {"reasoning_effort": COMMON_EFFORT.get(effort, effort)}
        case "chat_template_kwargs":
            return {"chat_template_kwargs": {"enable_thinking": effort != "none"}}
        case "reasoning":
            return {"reasoning": {"effort": OPENROUTER_EFFORT.get(effort, effort)}}
        case "none":
            return {}
        case _:
            assert_never(profile.thinking)


def _enable_thinking(model: str, effort: str) -> JsonObject:
    if model.startswith("qwen3-coder"):
        return {}
    if model.startswith("qwen3.8"):
        return {"reasoning_effort": effort_of_qwen_38(model, effort)}
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
