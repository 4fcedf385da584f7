"""Input items to Chat messages, in one pass (responses-to-chat §6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import Profile
from qwen_mitm.translate.content import chat_parts, plain_texts
from qwen_mitm.translate.conversation import Conversation
from qwen_mitm.translate.past_calls import (
    BuiltInOutput,
    PastCall,
    call_id_of,
    is_of_the_server,
    past_call,
    past_output,
)
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat_request import ChatText, EncryptedThought
from qwen_mitm.wire.input_items import (
    AdditionalTools,
    AgentMessage,
    CallItem,
    CallOutput,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    FunctionCallOutput,
    HostedReceipt,
    InputItem,
    ItemReference,
    Message,
    Reasoning,
    UnknownItem,
)

type Unseal = Callable[[str], str | None]
"""What is in an ``encrypted_content``; ``None`` when it is not ours or was tampered with."""

_SUMMARY: Final = (
    "Summary of the conversation so far. It stands for turns that are no longer shown; go on from "
    "where it ends."
)

type PastOutput = FunctionCallOutput | BuiltInOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryContext:
    tools: ToolTable
    profile: Profile
    report: Report
    unseal: Unseal | None = None
    unseal_summary: Unseal | None = None
    unseal_of_host: Unseal | None = None
    """Opens to what this host encrypted itself; none for a host that cannot read it."""


def add_items(
    conversation: Conversation,
    items: Iterable[InputItem],
    context: HistoryContext,
    *,
    first: int = 0,
) -> None:
    """``first`` is the place of the first of these items in the input."""
    for index, item in enumerate(items, first):
        _add_item(conversation, item, index, context)


def _add_item(
    conversation: Conversation, item: InputItem, index: int, context: HistoryContext
) -> None:
    match item:
        case Message():
            _add_message(conversation, item, f"input[{index}].content", context.profile)
        case AgentMessage():
            _add_agent_message(conversation, item, context.report)
        case CallItem():
            _add_call(conversation, item, index, context)
        case CallOutput():
            _add_output(conversation, item, index, context)
        case Reasoning():
            _add_thought(conversation, item, context)
        case Compaction():
            summary = _summary(item, index, context.unseal_summary)
            conversation.add_user((ChatText(f"{_SUMMARY}\n\n{summary}"),))
        case HostedReceipt():
            context.report.add("dropped_item", item.type)
        case AdditionalTools() | ConfigurationUpdate():
            # They are no part of the conversation; the request has them already (request.py).
            pass
        case ItemReference() | CompactionTrigger() | UnknownItem():
            raise _refusal(item, index)
        case _:
            assert_never(item)


def _refusal(item: ItemReference | CompactionTrigger | UnknownItem, index: int) -> InvalidRequest:
    if isinstance(item, ItemReference):
        return InvalidRequest(
            f"Item with id '{item.id[:64]}' not found: no items are stored here. Send the item "
            "itself instead of an item_reference.",
            param=f"input[{index}].id",
            code="previous_response_not_found",
        )
    if isinstance(item, CompactionTrigger):
        return InvalidRequest(
            "A compaction_trigger must be the last item of 'input'. Send it there, once.",
            param=f"input[{index}]",
        )
    return InvalidRequest(
        f"Input items of type '{item.type[:64]}' are not supported. Remove the item, or "
        "send what it says as a message.",
        param=f"input[{index}].type",
    )


def _add_message(
    conversation: Conversation, message: Message, where: str, profile: Profile
) -> None:
    match message.role:
        case "user":
            conversation.add_user(chat_parts(message.content, where, profile))
        case "assistant":
            for text in plain_texts(message.content, where):
                conversation.add_text(text)
        case "system" | "developer":
            conversation.system.extend(filter(None, plain_texts(message.content, where)))
        case _:
            assert_never(message.role)


def _add_agent_message(conversation: Conversation, message: AgentMessage, report: Report) -> None:
    if isinstance(message.content, str):
        text = message.content
    else:
        text = "".join(part.text for part in message.content)
        if any(part.type == "encrypted_content" for part in message.content):
            report.add("dropped_content", "encrypted_content")
    if text:
        conversation.add_user((ChatText(f"Message from {message.author}:\n{text}"),))


def _add_call(
    conversation: Conversation, item: PastCall, index: int, context: HistoryContext
) -> None:
    if is_of_the_server(item):
        context.report.add("dropped_item", item.type)
    else:
        conversation.add_call(past_call(item, index, context.tools), index)


def _add_output(
    conversation: Conversation, item: PastOutput, index: int, context: HistoryContext
) -> None:
    if isinstance(item, FunctionCallOutput):
        parts = chat_parts(item.output, f"input[{index}].output", context.profile)
        text = "".join(part.text for part in parts if isinstance(part, ChatText))
        attachments = [part for part in parts if not isinstance(part, ChatText)]
        conversation.add_output(item.call_id, text, attachments, index)
    elif is_of_the_server(item):
        context.report.add("dropped_item", item.type)
    else:
        text = past_output(item, context.tools)
        conversation.add_output(call_id_of(item, index), text, (), index)


def _summary(item: Compaction, index: int, unseal: Unseal | None) -> str:
    sealed = item.encrypted_content
    summary = unseal(sealed) if unseal is not None and sealed else None
    if summary is None:
        raise InvalidRequest(
            "This compaction was not made here, and nobody else can read it. Send the conversation "
            "itself, or compact it here.",
            param=f"input[{index}].encrypted_content",
        )
    return summary


def _add_thought(conversation: Conversation, item: Reasoning, context: HistoryContext) -> None:
    sealed = item.encrypted_content
    shown = "\n".join(part.text for part in item.content or item.summary or ())
    of_host = context.unseal_of_host(sealed) if context.unseal_of_host and sealed else None
    if of_host is not None:
        conversation.add_thought(EncryptedThought(shown, of_host))
        return
    own = context.unseal(sealed) if context.unseal is not None and sealed else None
    if thought := shown if own is None else own:
        conversation.add_thought(thought)
