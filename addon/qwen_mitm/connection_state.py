"""What one WebSocket connection remembers (responses-to-chat §13)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from qwen_mitm.stored_response import ResponseStore, StoredResponse, chain, with_id
from qwen_mitm.wire.response_object import JsonObject

#: Responses that one connection can go back to.
MOST_RESPONSES: Final = 16


class ConnectionState:
    """A :class:`ResponseStore` of the latest responses, also those of ``store: false``.

    Older ones, and those of other connections, are in ``below``, which may be exchanged.
    """

    def __init__(self, below: ResponseStore, limit: int = MOST_RESPONSES) -> None:
        self.below = below
        self._limit = limit
        self._kept: OrderedDict[str, StoredResponse] = OrderedDict()

    def save(self, stored: StoredResponse) -> None:
        self._kept[stored.id] = stored
        self._kept.move_to_end(stored.id)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        self.below.save(stored)

    def get(self, response_id: str) -> JsonObject | None:
        kept = self._kept.get(response_id)
        return self.below.get(response_id) if kept is None else kept.response

    def delete(self, response_id: str) -> bool:
        was_kept = self._kept.pop(response_id, None) is not None
        return self.below.delete(response_id) or was_kept

    def item(self, item_id: str) -> bytes | None:
        for stored in reversed(self._kept.values()):
            for item, found in _with_ids((*stored.input, *stored.output)):
                if found["id"] == item_id:
                    return item
        return self.below.item(item_id)

    def context(self, response_id: str) -> Sequence[bytes] | None:
        kept = self._kept.get(response_id)
        if kept is None:
            return self.below.context(response_id)
        return (*kept.input, *kept.output)

    def input_items(self, response_id: str) -> list[JsonObject] | None:
        kept = self._kept.get(response_id)
        if kept is None:
            return self.below.input_items(response_id)
        return [item for _, item in _with_ids(kept.input)]


def _with_ids(items: Sequence[bytes]) -> Iterator[tuple[bytes, JsonObject]]:
    for item, key in zip(items, chain(items), strict=True):
        yield item, with_id(item, key)
