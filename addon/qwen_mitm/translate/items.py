"""The output items of a response; each writes its own events while it grows (responses-to-chat §8).

An item is open from its construction to ``close()``. Its JSON is the same in ``output_item.done``
and in every later snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import JsonValue

from qwen_mitm.translate.events import DeltaFrame, EventWriter
from qwen_mitm.translate.parts import REASONING_TEXT, SUMMARY_TEXT, PartKind, TextPart
from qwen_mitm.translate.tools import ToolRoute
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
        self._parts[-1].close()


class Reasoning(OutputItem):
    """A thought, as a summary or as raw content (§7.4); always one part."""

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
        kind = SUMMARY_TEXT if family == "summary" else REASONING_TEXT
        self.part = TextPart(events, kind, id, output_index, 0)
        self._parts.append(self.part)

    @property
    def characters(self) -> int:
        return len(self.part.text)

    def as_json(self, status: ItemStatus) -> JsonObject:
        parts: list[JsonValue] = [part.as_json() for part in self._parts]
        item: JsonObject = {"type": "reasoning", "id": self.id, "summary": []}
        item[self._family] = parts
        if self._sealed is not None:
            item["encrypted_content"] = self._sealed
        return {**item, "status": status}

    def _finish(self, status: ItemStatus) -> None:
        self.part.close()
        if self._seal is not None:
            self._sealed = self._seal(self.part.text)


class FunctionCall(OutputItem):
    """A call of a function; its name and namespace are the ones that the client declared."""

    def __init__(
        self,
        events: EventWriter,
        id: str,  # noqa: A002 - the name of the field in the item
        output_index: int,
        call_id: str,
        route: ToolRoute,
    ) -> None:
        super().__init__(events, id, output_index)
        self._call_id = call_id
        self._route = route
        self._arguments: list[str] = []
        self._held: str | None = ""
        """Arguments that may turn out to be none at all; None once it is clear that they are."""
        self._where: JsonObject = {"item_id": id, "output_index": output_index}
        self._frame = DeltaFrame("response.function_call_arguments.delta", self._where)
        self._announce()

    @property
    def characters(self) -> int:
        return len(self.arguments) + len(self._route.name)

    @property
    def arguments(self) -> str:
        if len(self._arguments) > 1:
            self._arguments = ["".join(self._arguments)]
        return self._arguments[0] if self._arguments else ""

    def append(self, arguments: str) -> None:
        if self._held is not None:
            arguments = self._held + arguments
            # Hosts write "", " " or "null" for a call without arguments, where clients need "{}".
            if "null".startswith(arguments.strip()):
                self._held = arguments
                return
            self._held = None
        self._write(arguments)

    def as_json(self, status: ItemStatus) -> JsonObject:
        item: JsonObject = {
            "type": "function_call",
            "id": self.id,
            "call_id": self._call_id,
            "name": self._route.name,
            "arguments": self.arguments,
            "status": status,
        }
        if self._route.namespace is not None:
            item["namespace"] = self._route.namespace
        return item

    def _write(self, arguments: str) -> None:
        self._arguments.append(arguments)
        self._events.write_delta(self._frame, arguments)

    def _finish(self, status: ItemStatus) -> None:
        held, self._held = self._held, None
        if held is not None:
            if status == "completed" and held.strip() in ("", "null"):
                held = "{}"
            if held:
                self._write(held)
        self._events.write(
            "response.function_call_arguments.done",
            {**self._where, "arguments": self.arguments, "name": self._route.name},
        )


def open_call(
    events: EventWriter,
    id: str,  # noqa: A002 - the name of the field in the item
    output_index: int,
    call_id: str,
    route: ToolRoute,
) -> FunctionCall:
    """The item that answers a call of this tool; every kind is answered as a function for now."""
    return FunctionCall(events, id, output_index, call_id, route)
