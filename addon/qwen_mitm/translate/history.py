"""Input items to Chat messages, in one pass (responses-to-chat §6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import Profile
from qwen_mitm.translate.content import chat_parts, plain_texts
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatMessage,
    ChatPart,
    ChatText,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from qwen_mitm.wire.responses import (
    Compaction,
    FunctionCall,
    FunctionCallOutput,
    HostedReceipt,
    InputItem,
    ItemReference,
    Message,
    Reasoning,
    UnknownItem,
)

type Unseal = Callable[[str], str | None]
"""The thought in an ``encrypted_content``; ``None`` when it is not ours or was tampered with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryContext:
    tools: ToolTable
    profile: Profile
    report: Report
    unseal: Unseal | None = None


class Conversation:
    """The messages so far, and the assistant's turn that is still open.

    A turn is the assistant's texts, thoughts and calls, then the outputs of the calls, then the
    images of the outputs, then the user messages that came before the last output. It closes when
    every call has its output and something else follows.
    """

    def __init__(self) -> None:
        self.system: list[str] = []
        self._messages: list[ChatMessage] = []
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[ToolCall] = []
        self._outputs: list[ToolMessage] = []
        self._attachments: list[ChatPart] = []
        self._held: list[UserMessage] = []
        self._unanswered: dict[str, int] = {}

    def add_user(self, parts: tuple[ChatPart, ...]) -> None:
        message = UserMessage(parts)
        if self._unanswered:
            self._held.append(message)
        else:
            self._close_turn()
            self._messages.append(message)

    def add_text(self, text: str) -> None:
        self._continue_turn()
        self._texts.append(text)

    def add_thought(self, text: str) -> None:
        self._continue_turn()
        self._thoughts.append(text)

    def add_call(self, call: ToolCall, index: int) -> None:
        self._continue_turn()
        if call.id in self._unanswered:
            raise InvalidRequest(
                f"Duplicate function call with call_id {call.id}. Give every call its own call_id.",
                param=f"input[{index}].call_id",
            )
        self._calls.append(call)
        self._unanswered[call.id] = index

    def add_output(
        self, call_id: str, text: str, attachments: Sequence[ChatPart], index: int
    ) -> None:
        if self._unanswered.pop(call_id, None) is None:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {call_id}.",
                param=f"input[{index}].call_id",
            )
        if attachments:
            self._attachments.append(ChatText(f"Image result of tool call {call_id}:"))
            self._attachments.extend(attachments)
            text = text or "[attached]"
        self._outputs.append(ToolMessage(call_id, text))
        if self._held and not self._unanswered:
            self._close_turn()

    def finish(self) -> tuple[ChatMessage, ...]:
        self._refuse_unanswered()
        self._close_turn()
        return tuple(self._messages)

    def _continue_turn(self) -> None:
        if self._held:
            self._refuse_unanswered()
        if self._outputs and not self._unanswered:
            self._close_turn()

    def _refuse_unanswered(self) -> None:
        for call_id, index in self._unanswered.items():
            raise InvalidRequest(
                f"No tool output found for function call {call_id}.", param=f"input[{index}]"
            )

    def _close_turn(self) -> None:
        # A thought alone is dropped: it says nothing that a message or a call did not follow up.
        if self._calls or any(self._texts):
            thought = "\n".join(self._thoughts) or None
            content = "\n".join(filter(None, self._texts))
            self._messages.append(AssistantMessage(content, thought, tuple(self._calls)))
        self._messages.extend(self._outputs)
        if self._attachments:
            self._messages.append(UserMessage(tuple(self._attachments)))
        self._messages.extend(self._held)
        for buffer in (
            self._texts,
            self._thoughts,
            self._calls,
            self._outputs,
            self._attachments,
            self._held,
        ):
            buffer.clear()


def add_items(
    conversation: Conversation, items: Iterable[InputItem], context: HistoryContext
) -> None:
    for index, item in enumerate(items):
        _add_item(conversation, item, index, context)


def _add_item(
    conversation: Conversation, item: InputItem, index: int, context: HistoryContext
) -> None:
    match item:
        case Message():
            _add_message(conversation, item, f"input[{index}].content", context.profile)
        case FunctionCall():
            name = context.tools.flat(item.namespace, item.name)
            arguments = item.arguments if item.arguments and not item.arguments.isspace() else "{}"
            conversation.add_call(ToolCall(item.call_id, name, arguments), index)
        case FunctionCallOutput():
            parts = chat_parts(item.output, f"input[{index}].output", context.profile)
            text = "".join(part.text for part in parts if isinstance(part, ChatText))
            attachments = [part for part in parts if not isinstance(part, ChatText)]
            conversation.add_output(item.call_id, text, attachments, index)
        case Reasoning():
            thought = _thought(item, context.unseal)
            if thought:
                conversation.add_thought(thought)
        case HostedReceipt():
            context.report.add("dropped_item", item.type)
        case ItemReference():
            raise InvalidRequest(
                f"Item with id '{item.id[:64]}' not found: no items are stored here. Send the item "
                "itself instead of an item_reference.",
                param=f"input[{index}].id",
                code="previous_response_not_found",
            )
        case Compaction() | UnknownItem():
            raise InvalidRequest(
                f"Input items of type '{item.type[:64]}' are not supported. Remove the item, or "
                "send what it says as a message.",
                param=f"input[{index}].type",
            )
        case _:
            assert_never(item)


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


def _thought(item: Reasoning, unseal: Unseal | None) -> str:
    if unseal is not None and item.encrypted_content:
        own = unseal(item.encrypted_content)
        if own is not None:
            return own
    return "\n".join(part.text for part in item.content or item.summary or ())
