"""The output items of calls, a class for each kind of tool (responses-to-chat §4, §7.3, §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from qwen_mitm.translate.actions import (
    local_shell_action,
    patch_operation,
    search_arguments,
    shell_action,
)
from qwen_mitm.translate.definitions import ToolKind
from qwen_mitm.translate.events import DeltaFrame, EventWriter
from qwen_mitm.translate.freeform import FreeformInput
from qwen_mitm.translate.items import ItemStatus, OutputItem
from qwen_mitm.translate.tools import ToolRoute
from qwen_mitm.wire.response_object import JsonObject


@dataclass(frozen=True, slots=True)
class CallStart:
    """What is known of a call when its item is opened."""

    events: EventWriter
    id: str
    output_index: int
    call_id: str
    route: ToolRoute
    arguments: str = ""


class CallItem(OutputItem):
    """A call of a tool; its name and namespace are the ones that the client declared."""

    type: ClassVar[str]
    id_prefix: ClassVar[str]
    opens_whole: ClassVar[bool] = False
    """Its item cannot be shown before all the arguments are there."""

    def __init__(self, start: CallStart) -> None:
        super().__init__(start.events, start.id, start.output_index)
        self._call_id = start.call_id
        self._route = start.route

    def append(self, arguments: str) -> None:
        """More of the arguments of the Chat function that stands for the tool."""
        raise NotImplementedError

    def extend(self, pieces: Sequence[str]) -> None:
        """The same, once for each piece."""
        for arguments in pieces:
            self.append(arguments)

    def _head(self) -> JsonObject:
        return {"type": self.type, "id": self.id, "call_id": self._call_id}


class NamedCall(CallItem):
    """A call that says which tool it is for, and whose one text grows."""

    text_key: ClassVar[str]
    text_event: ClassVar[str]

    def __init__(self, start: CallStart) -> None:
        super().__init__(start)
        self._texts: list[str] = []
        self._where: JsonObject = {"item_id": start.id, "output_index": start.output_index}
        self._frame = DeltaFrame(f"{self.text_event}.delta", self._where)
        self._announce()
        self.append(start.arguments)

    @property
    def characters(self) -> int:
        return len(self.text) + len(self._route.name)

    @property
    def text(self) -> str:
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    def as_json(self, status: ItemStatus) -> JsonObject:
        item: JsonObject = {
            **self._head(),
            "name": self._route.name,
            self.text_key: self.text,
            "status": status,
        }
        if self._route.namespace is not None:
            item["namespace"] = self._route.namespace
        return item

    def _write(self, text: str) -> None:
        if text:
            self._texts.append(text)
            self._events.write_delta(self._frame, text)


class FunctionCall(NamedCall):
    type = "function_call"
    id_prefix = "fc"
    text_key = "arguments"
    text_event = "response.function_call_arguments"
    _held: str | None = ""
    """Arguments that may turn out to be none at all; None once it is clear that they are."""

    def append(self, arguments: str) -> None:
        if self._held is not None:
            arguments = self._held + arguments
            # Hosts write "", " " or "null" for a call without arguments, where clients need "{}".
            if "null".startswith(arguments.strip()):
                self._held = arguments
                return
            self._held = None
        self._write(arguments)

    def extend(self, pieces: Sequence[str]) -> None:
        if self._held is not None or "" in pieces:
            super().extend(pieces)
            return
        self._texts.extend(pieces)
        self._events.write_deltas(self._frame, pieces)

    def _finish(self, status: ItemStatus) -> None:
        held, self._held = self._held, None
        if held is not None:
            if status == "completed" and held.strip() in ("", "null"):
                held = "{}"
            self._write(held)
        self._events.write(
            f"{self.text_event}.done",
            {**self._where, "arguments": self.text, "name": self._route.name},
        )


class CustomToolCall(NamedCall):
    """A call of a freeform tool: what the model wrote into the function's ``input``."""

    type = "custom_tool_call"
    id_prefix = "ctc"
    text_key = "input"
    text_event = "response.custom_tool_call_input"

    def __init__(self, start: CallStart) -> None:
        self._input = FreeformInput()
        super().__init__(start)

    def append(self, arguments: str) -> None:
        self._write(self._input.feed(arguments))

    def _finish(self, status: ItemStatus) -> None:
        self._write(self._input.rest())
        self._events.write(f"{self.text_event}.done", {**self._where, "input": self.text})


class BuiltInCall(CallItem):
    """A call of a tool that OpenAI defined: its events are ``added`` and ``done`` alone (§8).

    What it does is known from the whole arguments only.
    """

    opens_whole = True

    def __init__(self, start: CallStart) -> None:
        super().__init__(start)
        self._written = len(start.arguments)
        self._action = self._meaning(start.arguments)
        self._announce()

    @property
    def characters(self) -> int:
        return self._written

    def append(self, arguments: str) -> None:
        """Nothing that counts can follow a whole object."""

    def as_json(self, status: ItemStatus) -> JsonObject:
        return {**self._head(), **self._action, "status": status}

    def _meaning(self, arguments: str) -> JsonObject:
        raise NotImplementedError

    def _finish(self, status: ItemStatus) -> None:
        pass


class ToolSearchCall(BuiltInCall):
    type = "tool_search_call"
    id_prefix = "tsc"

    def _meaning(self, arguments: str) -> JsonObject:
        return {"execution": "client", "arguments": search_arguments(arguments)}


class LocalShellCall(BuiltInCall):
    type = "local_shell_call"
    id_prefix = "lsh"

    def _meaning(self, arguments: str) -> JsonObject:
        return {"action": local_shell_action(arguments)}


class ShellCall(BuiltInCall):
    type = "shell_call"
    id_prefix = "sh"

    def _meaning(self, arguments: str) -> JsonObject:
        return {"action": shell_action(arguments), "environment": {"type": "local"}}


class ApplyPatchCall(BuiltInCall):
    type = "apply_patch_call"
    id_prefix = "apc"

    def as_json(self, status: ItemStatus) -> JsonObject:
        # OpenAI's type has no "incomplete" here.
        return super().as_json("in_progress" if status == "incomplete" else status)

    def _meaning(self, arguments: str) -> JsonObject:
        return {"operation": patch_operation(arguments)}


CALL_ITEMS: Final[Mapping[ToolKind, type[CallItem]]] = {
    "function": FunctionCall,
    "custom": CustomToolCall,
    "tool_search": ToolSearchCall,
    "local_shell": LocalShellCall,
    "shell": ShellCall,
    "apply_patch": ApplyPatchCall,
}
