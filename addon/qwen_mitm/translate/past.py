"""What an earlier turn made of a conversation's first items, so that the next one goes on there.

Why the result is the same: an item becomes what it becomes because of itself, of the items before
it and of the :class:`HistoryContext`. The items are frozen and have to be the very objects of the
earlier turn; what counts of the context is compared; and the conversation is copied in the state in
which the last of these items left it, open turn and all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import is_

from qwen_mitm.translate.conversation import Conversation
from qwen_mitm.translate.history import HistoryContext, add_items
from qwen_mitm.wire.chat_request import ChatRequest, texts_of
from qwen_mitm.wire.input_items import InputItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The state after some items; never changed."""

    items: tuple[InputItem, ...]
    terms: tuple[object, ...]
    """What else the items were translated by."""
    conversation: Conversation
    losses: tuple[tuple[str, str], ...]
    closed_size: int
    """Of the texts of the messages that stay as they are."""

    def fits(self, items: tuple[InputItem, ...], terms: tuple[object, ...]) -> bool:
        """Whether these items begin with those of the past, and would be the same again."""
        return (
            len(self.items) <= len(items)
            and all(map(is_, self.items, items))
            and self.terms == terms
        )

    def text_size(self, chat: ChatRequest, size: Callable[[str], int]) -> int:
        """Of every text that the model reads, for the request made of all the items."""
        rest = chat.messages[len(self.conversation.closed) :]
        texts = [text for message in rest for text in texts_of(message)]
        return self.closed_size + sum(map(size, texts)) + size(chat.system or "")


def after(
    items: tuple[InputItem, ...],
    context: HistoryContext,
    size: Callable[[str], int],
    earlier: Past | None = None,
) -> Past:
    """The state after all items. What they lose is added to the report of the context.

    Raises:
        InvalidRequest: an item that cannot be translated.
    """
    terms = (
        context.tools.naming,
        context.profile,
        context.unseal,
        context.unseal_summary,
        context.unseal_of_host,
    )
    if earlier is None or not earlier.fits(items, terms):
        earlier = Past(items=(), terms=terms, conversation=Conversation(), losses=(), closed_size=0)
    conversation = earlier.conversation.copy()
    for loss in earlier.losses:
        context.report.add(*loss)
    first = len(earlier.items)
    add_items(conversation, items[first:], context, first=first)
    newly_closed = conversation.closed[len(earlier.conversation.closed) :]
    texts = [text for message in newly_closed for text in texts_of(message)]
    return Past(
        items=items,
        terms=terms,
        conversation=conversation,
        losses=context.report.entries,
        closed_size=earlier.closed_size + sum(map(size, texts)),
    )
