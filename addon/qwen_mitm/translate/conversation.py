"""Chat messages in the order that every host takes (responses-to-chat §6)."""

from __future__ import annotations

from collections.abc import Sequence

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatMessage,
    ChatPart,
    ChatText,
    EncryptedThought,
    ToolCall,
    ToolMessage,
    UserMessage,
)


class Conversation:
    """The messages so far, and the assistant's turn that is still open.

    A turn is the assistant's texts, thoughts and calls, then the outputs of the calls, then the
    images of the outputs, then the user messages that came before the last output. It closes when
    every call has its output and something else follows.
    """

    def __init__(self) -> None:
        self.system: list[str] = []
        """What the items say to the model in the system's name."""
        self._messages: list[ChatMessage] = []
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._encrypted: list[EncryptedThought] = []
        self._calls: list[ToolCall] = []
        self._outputs: list[ToolMessage] = []
        self._attachments: list[ChatPart] = []
        self._held: list[UserMessage] = []
        self._unanswered: dict[str, int] = {}

    def copy(self) -> Conversation:
        """One that goes on for itself. What is in it never changes, and is shared."""
        other = Conversation()
        for name, buffer in vars(self).items():
            setattr(other, name, buffer.copy())
        return other

    @property
    def closed(self) -> Sequence[ChatMessage]:
        """The messages before the open turn: whatever follows, they stay as they are."""
        return self._messages

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

    def add_thought(self, thought: str | EncryptedThought) -> None:
        self._continue_turn()
        if isinstance(thought, EncryptedThought):
            self._encrypted.append(thought)
        else:
            self._thoughts.append(thought)

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
            self._messages.append(
                AssistantMessage(content, thought, tuple(self._calls), tuple(self._encrypted))
            )
        self._messages.extend(self._outputs)
        if self._attachments:
            self._messages.append(UserMessage(tuple(self._attachments)))
        self._messages.extend(self._held)
        for buffer in (
            self._texts,
            self._thoughts,
            self._encrypted,
            self._calls,
            self._outputs,
            self._attachments,
            self._held,
        ):
            buffer.clear()
