"""The output items of a response; each writes its own events while it grows (responses-to-chat §8).

Messages and thoughts are here, calls in ``call_items``.

An item is open from its construction to ``close()``. Its JSON is the same in ``output_item.done``
and in every later snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import JsonValue

from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.parts import OUTPUT_TEXT, REASONING_TEXT, SUMMARY_TEXT, PartKind, TextPart
from qwen_mitm.wire.response_object import JsonObject

type ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputItem:
    """What all items have in common; an item's subclass calls ``_announce`` when it is made."""

    def __init__(self, events: EventWriter, id: str, output_index: int) -> None:  # noqa: A002
        self.id = id
        self.output_index = output_index
        self.status: ItemStatus = "in_progress"
        self._events = events

    @property
    def is_open(self) -> bool:
        return self.status == "in_progress"

    @property
    def characters(self) -> int:
        """How much the model wrote here."""
        raise NotImplementedError

    def close(self, status: ItemStatus) -> None:
        """Writes the ``done`` events; the item does not change any more."""
        self._finish(status)
        self.status = status
        item = self.as_json(status)
        self._events.write(
            "response.output_item.done", {"output_index": self.output_index, "item": item}
        )

    def as_json(self, status: ItemStatus) -> JsonObject:
        raise NotImplementedError

    def _finish(self, status: ItemStatus) -> None:
        raise NotImplementedError

    def _announce(self) -> None:
        item = self.as_json("in_progress")
        self._events.write(
            "response.output_item.added", {"output_index": self.output_index, "item": item}
        )


class Message(OutputItem):
    """What the model says: text and refusals, one part after the other."""

    def __init__(self, events: EventWriter, id: str, output_index: int) -> None:  # noqa: A002
        super().__init__(events, id, output_index)
        self._parts: list[TextPart] = []
        self._announce()

    @property
    def text(self) -> str:
        """All that is said so far."""
        return "".join(part.text for part in self._parts)

    def said(self, kind: PartKind) -> str:
        """The part of it that is of this kind."""
        return "".join(part.text for part in self._parts if part.kind is kind)

    @property
    def characters(self) -> int:
        return sum(len(part.text) for part in self._parts)

    def part(self, kind: PartKind) -> TextPart:
        """The part to which text of this kind goes now."""
        if self._parts:
            last = self._parts[-1]
            if last.kind is kind:
                return last
            last.close()
        part = TextPart(self._events, kind, self.id, self.output_index, len(self._parts))
        self._parts.append(part)
        return part

    def as_json(self, status: ItemStatus) -> JsonObject:
        return {
            "type": "message",
            "id": self.id,
            "status": status,
            "role": "assistant",
            "content": [part.as_json() for part in self._parts],
        }

    def _finish(self, status: ItemStatus) -> None:
        if not self._parts:
            self.part(OUTPUT_TEXT)
        self._parts[-1].close()


class Reasoning(OutputItem):
    """A thought, as a summary or as raw content (§7.4); a host's own summary may have parts."""

    def __init__(
        self,
        events: EventWriter,
        id: str,  # noqa: A002 - the name of the field in the item
        output_index: int,
        family: Literal["summary", "content"],
        seal: Callable[[str], str] | None,
    ) -> None:
        super().__init__(events, id, output_index)
        self._family = family
        self._seal = seal
        self._sealed: str | None = None
        self._parts: list[TextPart] = []
        self._announce()

    @property
    def characters(self) -> int:
        return len(self.text)

    @property
    def text(self) -> str:
        return "\n\n".join(part.text for part in self._parts)

    def append(self, text: str, *, apart: bool = False) -> None:
        """More of the thought; ``apart``: in a part of its own."""
        if apart and self._parts:
            self._parts[-1].close()
        if apart or not self._parts:
            kind = SUMMARY_TEXT if self._family == "summary" else REASONING_TEXT
            place = len(self._parts)
            self._parts.append(TextPart(self._events, kind, self.id, self.output_index, place))
        self._parts[-1].append(text)

    def extend(self, texts: Sequence[str]) -> None:
        """More of the thought, in the part that its first words have opened."""
        self._parts[-1].extend(texts)

    def keep(self, sealed: str) -> None:
        """What goes into ``encrypted_content`` instead of the text."""
        self._sealed = sealed

    def as_json(self, status: ItemStatus) -> JsonObject:
        parts: list[JsonValue] = [part.as_json() for part in self._parts]
        item: JsonObject = {"type": "reasoning", "id": self.id, "summary": []}
        item[self._family] = parts
        if self._sealed is not None:
            item["encrypted_content"] = self._sealed
        return {**item, "status": status}

    def _finish(self, status: ItemStatus) -> None:
        if self._parts:
            self._parts[-1].close()
        if self._seal is not None and self._sealed is None:
            self._sealed = self._seal(self.text)
