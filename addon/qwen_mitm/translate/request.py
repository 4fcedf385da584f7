"""A Responses request to a Chat request: what becomes of each field (responses-to-chat §3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import GENERIC, Dialect, Profile, Wire
from qwen_mitm.translate.compaction import summarising
from qwen_mitm.translate.conversation import Conversation
from qwen_mitm.translate.history import HistoryContext, Unseal
from qwen_mitm.translate.host_rules import host_losses
from qwen_mitm.translate.past import Past, after
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tool_choice import chosen_tool
from qwen_mitm.translate.tools import ToolTable, offered_tools
from qwen_mitm.wire.chat_request import ChatRequest, ChatText, ChatToolChoice
from qwen_mitm.wire.configuration import JsonSchemaFormat, ReasoningConfig, TextConfig
from qwen_mitm.wire.input_items import (
    AdditionalTools,
    CompactionTrigger,
    ConfigurationUpdate,
    InputItem,
    ToolSearchOutput,
)
from qwen_mitm.wire.request_tools import Echoed, Tool
from qwen_mitm.wire.response_object import JsonObject, ResponseEcho
from qwen_mitm.wire.responses import ResponsesRequest

_LOGPROBS: Final = "message.output_text.logprobs"
_LONGEST_NAME: Final = 64
_MOST_NAMES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    chat: ChatRequest
    tools: ToolTable
    echo: ResponseEcho
    report: Report
    estimated_input_tokens: int
    compacts: bool
    """The answer is the conversation, summarised (see compaction.py)."""
    past: Past
    """For the next turn."""


def translate(
    request: ResponsesRequest,
    *,
    profile: Profile = GENERIC,
    wire: Wire = "chat",
    default_model: str | None = None,
    unseal: Unseal | None = None,
    unseal_summary: Unseal | None = None,
    unseal_of_host: Unseal | None = None,
    compact: bool = False,
    may_be_empty: bool = False,
    past: Past | None = None,
) -> Translation:
    """What goes upstream, and what the answer needs to know of the request.

    ``profile`` and ``wire`` are those of the attempt: they decide about files, about the tools that
    the host runs itself, and about warnings. ``unseal`` opens thoughts, ``unseal_of_host`` what the
    host encrypted itself, and ``unseal_summary`` compactions; those of the latter that it cannot
    open are refused. ``compact`` asks for a summary, as a ``compaction_trigger`` does.
    ``may_be_empty`` allows a request that says nothing. ``past`` is of an earlier turn of the
    conversation, and makes no other difference than time. What the caller would get something else
    for is an ``InvalidRequest``.
    """
    _refuse_state(request)
    request, triggered = _without_trigger(request)
    compact = compact or triggered
    request = _configured(request)
    model = request.model or default_model
    if model is None:
        raise InvalidRequest(
            "Missing required parameter: 'model'. Name the model, for example qwen3-coder-plus.",
            param="model",
        )
    report = Report()
    for name in _dropped_fields(request):
        report.add("dropped_field", name)
    hosted = Dialect(profile, wire).hosted_tools(model)
    tools = offered_tools(_declared(request), report, hosted)
    choice = chosen_tool(request.tool_choice, tools, report, wire=wire)
    context = HistoryContext(
        tools=tools,
        profile=profile,
        report=Report(),
        unseal=unseal,
        unseal_summary=unseal_summary,
        unseal_of_host=unseal_of_host,
    )
    past = after(_items(request), context, _utf8_size, past)
    for code, what in past.losses:
        report.add(code, what)
    chat = _chat(request, model, past.conversation.copy(), tools, choice)
    if not (chat.system or chat.messages or may_be_empty):
        raise InvalidRequest(
            "Missing required parameter: 'input'. Send a text or a list of messages.",
            param="input",
        )
    if compact:
        chat = summarising(chat)
    for code, what in host_losses(chat, profile):
        report.add(code, what)
    return Translation(
        chat=chat,
        tools=tools,
        echo=_echo(request, model),
        report=report,
        estimated_input_tokens=_estimated_tokens(chat, past),
        compacts=compact,
        past=past,
    )


def _chat(
    request: ResponsesRequest,
    model: str,
    conversation: Conversation,
    tools: ToolTable,
    choice: ChatToolChoice | None,
) -> ChatRequest:
    logprobs = _wants_logprobs(request)
    if isinstance(request.input, str):
        conversation.add_user((ChatText(request.input),))
    return ChatRequest(
        model=model,
        system="\n\n".join(filter(None, (request.instructions, *conversation.system))) or None,
        messages=conversation.finish(),
        tools=tools.definitions,
        hosted_tools=tuple(tools.hosted.values()) if request.tool_choice != "none" else (),
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls if tools.definitions else None,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logprobs=logprobs,
        top_logprobs=request.top_logprobs if logprobs else None,
        response_format=_response_format(request),
        effort=request.reasoning.effort if request.reasoning else None,
        verbosity=request.text.verbosity if request.text else None,
        reasoning_summary=_summary(request.reasoning),
    )


def _wants_logprobs(request: ResponsesRequest) -> bool:
    return _LOGPROBS in (request.include or ())


def _dropped_fields(request: ResponsesRequest) -> Iterator[str]:
    # A client may send any number of them, of any length, and a header holds only so much.
    yield from (name[:_LONGEST_NAME] for name in request.unknown_fields[:_MOST_NAMES])
    if request.top_logprobs and not _wants_logprobs(request):
        yield "top_logprobs"


def _refuse_state(request: ResponsesRequest) -> None:
    """What needs a store of responses (state.expand comes before), a queue, or templates."""
    if request.previous_response_id is not None and request.conversation is not None:
        raise InvalidRequest(
            "'previous_response_id' and 'conversation' cannot be used together. Send one of them.",
            param="conversation",
        )
    if request.previous_response_id is not None:
        raise InvalidRequest(
            f"Previous response with id '{request.previous_response_id[:64]}' not found: no "
            "responses are stored here. Send the whole conversation in 'input'.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if request.conversation is not None:
        raise InvalidRequest(
            "'conversation' is not supported. Send the whole conversation in 'input'.",
            param="conversation",
        )
    if request.background:
        raise InvalidRequest(
            "'background' is not supported. Leave it out, and use 'stream' for long answers.",
            param="background",
        )
    if request.prompt is not None:
        raise InvalidRequest(
            "Prompt templates are stored at OpenAI and cannot be used here. Send the text of "
            "'prompt' in 'instructions' and 'input'.",
            param="prompt",
        )


def _without_trigger(request: ResponsesRequest) -> tuple[ResponsesRequest, bool]:
    items = _items(request)
    if not items or not isinstance(items[-1], CompactionTrigger):
        return request, False
    return request.model_copy(update={"input": items[:-1]}), True


def _items(request: ResponsesRequest) -> tuple[InputItem, ...]:
    return request.input if isinstance(request.input, tuple) else ()


def _declared(request: ResponsesRequest) -> Iterator[tuple[str, Tool]]:
    """All the tools that the model can reach, with their JSON paths (§4)."""
    for index, tool in enumerate(request.tools or ()):
        yield f"tools[{index}]", tool
    for index, item in enumerate(_items(request)):
        # For a class of pydantic's isinstance calls Python, and there are thousands of items.
        if type(item) is AdditionalTools or type(item) is ToolSearchOutput:
            for position, tool in enumerate(item.tools):
                yield f"input[{index}].tools[{position}]", tool


def _configured(request: ResponsesRequest) -> ResponsesRequest:
    """With what the ``configuration_update`` items change: each setting's last one counts."""
    updates = [item for item in _items(request) if type(item) is ConfigurationUpdate]
    if not updates:
        return request
    reasoning = request.reasoning or ReasoningConfig()
    text = request.text or TextConfig()
    for item in updates:
        if item.reasoning is not None and item.reasoning.effort is not None:
            reasoning = reasoning.model_copy(update={"effort": item.reasoning.effort})
        if item.text is not None and item.text.format is not None:
            text = text.model_copy(update={"format": item.text.format})
    return request.model_copy(update={"reasoning": reasoning, "text": text})


def _response_format(request: ResponsesRequest) -> JsonObject | None:
    wanted = request.text.format if request.text else None
    if wanted is None or wanted.type == "text":
        return None
    if not isinstance(wanted, JsonSchemaFormat):
        return {"type": wanted.type}
    schema: JsonObject = {"name": wanted.name, "schema": wanted.schema_}
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}


def _echo(request: ResponsesRequest, model: str) -> ResponseEcho:
    reasoning = request.reasoning
    text: JsonObject = request.text.echo() if request.text else {}
    choice = request.tool_choice
    retention = request.prompt_cache_retention
    return ResponseEcho(
        model=model,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        prompt_cache_key=request.prompt_cache_key,
        reasoning={
            "effort": reasoning.effort if reasoning else None,
            "summary": _summary(reasoning),
        },
        safety_identifier=request.safety_identifier,
        service_tier=request.service_tier,
        store=request.store is not False,
        temperature=_or_one(request.temperature),
        text={**text, "format": text.get("format") or {"type": "text"}},
        tool_choice=choice.echo() if isinstance(choice, Echoed) else choice or "auto",
        tools=[tool.echo() for tool in request.tools or ()],
        top_logprobs=request.top_logprobs or 0,
        top_p=_or_one(request.top_p),
        truncation=request.truncation or "disabled",
        presence_penalty=request.presence_penalty or 0,
        frequency_penalty=request.frequency_penalty or 0,
        user=request.user,
        hints={} if retention is None else {"prompt_cache_retention": retention},
    )


def _summary(reasoning: ReasoningConfig | None) -> str | None:
    return (reasoning.summary or reasoning.generate_summary) if reasoning else None


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def _estimated_tokens(chat: ChatRequest, past: Past) -> int:
    """A quarter of the UTF-8 bytes, which fits English, code and Chinese well enough."""
    size = past.text_size(chat, _utf8_size)
    return (size + sum(len(to_json(tool.parameters)) for tool in chat.tools)) // 4 + 1


def _utf8_size(text: str) -> int:
    """Exact for ASCII; else by the first thousand characters, as encoding them all takes time."""
    if text.isascii():
        return len(text)
    sample = text[:1000]
    return len(text) * len(sample.encode()) // len(sample)
