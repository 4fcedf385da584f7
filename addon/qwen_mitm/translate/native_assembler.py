"""The events of a host that speaks Responses itself become those of our response (§8-§10).

They leave as they arrive, and mended: ids, places and numbers are ours, what the host leaves out is
added, and there is one terminal event whatever the host does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qwen_mitm.translate.draft import AnswerContext, ResponseDraft
from qwen_mitm.translate.native_items import (
    CallSlot,
    MessageSlot,
    PassedSlot,
    Slot,
    Stage,
    ThoughtSlot,
)
from qwen_mitm.translate.outcome import counted_usage
from qwen_mitm.wire.chat import EndOfAnswer, Failure
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.upstream_events import (
    ResponsesPart,
    UpstreamEvent,
    UpstreamItem,
    UpstreamResponse,
)

_CUT_OFF: Final = Failure("The upstream ended the stream before the answer was finished.")
_NO_ANSWER: Final = Failure("The upstream ended the stream without an answer.")
_NAMELESS: Final = Failure("The model called a tool, but the upstream did not say which one.")
#: Events of these say of which kind an item is that was not announced.
_KINDS: Final = (
    ("response.output_text.", "message"),
    ("response.refusal.", "message"),
    ("response.reasoning", "reasoning"),
    ("response.function_call_arguments.", "function_call"),
)
#: Events of ours: what was not taken of them does not pass.
_OURS: Final = (
    *(begin for begin, _ in _KINDS),
    "response.output_item.",
    "response.content_part.",
    "response.custom_tool_call_input.",
)


class NativeAssembler:
    """One response; in use like an :class:`Assembler`."""

    def __init__(self, context: AnswerContext, draft: ResponseDraft | None = None) -> None:
        """``draft``: a response that was begun before this answer came."""
        self._context = context
        self._draft = draft or ResponseDraft(context)
        self._stage = Stage(context, self._draft, self._make_way)
        self._slots: list[Slot] = []
        self._at: dict[int, Slot] = {}
        """By the host's ``output_index``; of several the last one."""
        self._usage: JsonObject | None = None

    @property
    def finished(self) -> bool:
        """The terminal event was produced; nothing follows."""
        return self._draft.finished

    @property
    def ending(self) -> bool:
        """Never: the terminal event says all."""
        return False

    @property
    def error(self) -> Failure | None:
        """Why the response failed."""
        return self._draft.error

    @property
    def usage_is_estimated(self) -> bool:
        return self._draft.usage_is_estimated

    def start(self) -> bytes:
        """``response.created`` and ``response.in_progress``; b"" when already started."""
        self._draft.start()
        return self._draft.take()

    def feed(self, parts: Iterable[ResponsesPart]) -> bytes:
        """The events of these parts; starts by itself, and b"" after the end."""
        self._draft.start()
        for part in parts:
            if self.finished:
                break
            match part:
                case UpstreamEvent():
                    self._take(part)
                case EndOfAnswer():
                    self._stop()
                case Failure():
                    self._fail(part)
        return self._draft.take()

    def end(self, reason: Failure | None = None) -> bytes:
        """The upstream's stream is over; ``reason`` says why, if it broke."""
        if not self.finished:
            self._draft.start()
            if reason is None:
                self._stop()
            else:
                self._fail(reason)
        return self._draft.take()

    def fail(self, failure: Failure) -> bytes:
        """``response.failed``; b"" when already finished."""
        if not self.finished:
            self._draft.start()
            self._fail(failure)
        return self._draft.take()

    def response(self) -> JsonObject:
        """The Response object so far."""
        return self._draft.response()

    def _take(self, event: UpstreamEvent) -> None:
        match event.type:
            case "response.output_item.added" if event.item is not None:
                self._slot_for(event, event.item)
            case "response.output_item.done" if event.item is not None:
                self._finish(self._slot_for(event, event.item), event.item)
            case "response.completed" | "response.incomplete":
                response = event.response or UpstreamResponse()
                self._conclude(response, cut=event.type == "response.incomplete")
            case _:
                self._take_of_item(event)

    def _take_of_item(self, event: UpstreamEvent) -> None:
        slot = self._known(event.output_index, event.item_id)
        kind = next((k for begin, k in _KINDS if event.type.startswith(begin)), None)
        if kind is not None and (slot is None or slot.kind != kind or self._goes_on(slot, event)):
            # The host did not announce it, or goes on with it after something else.
            slot = self._open(event.output_index, UpstreamItem(type=kind, id=event.item_id))
        if slot is None or not (slot.closed or slot.take(event)):
            self._pass_on(event, slot)

    def _goes_on(self, slot: Slot, event: UpstreamEvent) -> bool:
        return slot.closed and slot.interrupted and event.type.endswith(".delta")

    def _pass_on(self, event: UpstreamEvent, slot: Slot | None) -> None:
        """An event that only the host knows the meaning of."""
        if event.type.startswith(_OURS):
            return
        fields = {k: v for k, v in event.raw.items() if k not in ("type", "sequence_number")}
        if event.output_index is not None or event.item_id is not None:
            if slot is None or slot.item is None:
                return
            fields |= {"output_index": slot.item.output_index, "item_id": slot.item.id}
        self._draft.events.write(event.type, fields)

    def _known(self, output_index: int | None, item_id: str | None) -> Slot | None:
        if output_index is not None:
            return self._at.get(output_index)
        if item_id is None:
            return self._slots[-1] if self._slots else None
        of_that_id = (slot for slot in reversed(self._slots) if slot.upstream_id == item_id)
        return next(of_that_id, None)

    def _slot_for(self, event: UpstreamEvent, item: UpstreamItem) -> Slot:
        """The item's slot, which is opened if it is not there."""
        slot = self._known(event.output_index, event.item_id or item.id)
        if slot is not None and (event.output_index is not None or item.id == slot.upstream_id):
            return slot
        return self._open(event.output_index, item)

    def _open(self, place: int | None, item: UpstreamItem) -> Slot:
        slot: Slot
        match item.type:
            case "message":
                self._make_way()
                slot = MessageSlot(self._stage, item.id)
            case "reasoning":
                self._make_way()
                slot = ThoughtSlot(self._stage, item.id)
            case "function_call":
                slot = CallSlot(self._stage, item)
            case _:
                self._make_way()
                slot = PassedSlot(self._stage, item)
        self._slots.append(slot)
        if place is not None:
            self._at[place] = slot
        return slot

    def _make_way(self) -> None:
        for slot in self._slots:
            if slot.is_text and not slot.closed:
                slot.finish(None, "completed")
                slot.interrupted = True

    def _finish(self, slot: Slot, item: UpstreamItem) -> None:
        if not slot.closed:
            slot.finish(item, "incomplete" if item.status == "incomplete" else "completed")

    def _conclude(self, response: UpstreamResponse, *, cut: bool) -> None:
        if response.service_tier is not None:
            self._draft.service_tier = response.service_tier
        if response.usage is not None:
            self._usage = counted_usage(response.usage)
        for place, item in enumerate(response.output):
            if item is not None:
                self._finish(self._listed(place, item), item)
        self._end(response.incomplete_details.reason if response.incomplete_details else None, cut)

    def _listed(self, place: int, item: UpstreamItem) -> Slot:
        """The slot of an item that the terminal event lists."""
        by_id = self._known(None, item.id) if item.id is not None else None
        slot = by_id or self._at.get(place)
        return slot or self._open(place, item)

    def _stop(self) -> None:
        """The stream ended without a terminal event."""
        if not self._slots:
            self._fail(_NO_ANSWER)
        elif all(slot.closed for slot in self._slots):
            self._end(None, cut=False)
        else:
            self._fail(_CUT_OFF)

    def _end(self, reason: str | None, cut: bool) -> None:
        open_slots = [slot for slot in self._slots if not slot.closed]
        for slot in open_slots:
            # One that is shown only now may have closed another.
            if not slot.closed:
                last = slot.item is None or slot.item is self._draft.items[-1]
                slot.finish(None, "incomplete" if cut and last else "completed")
        calls = [slot for slot in self._slots if isinstance(slot, CallSlot)]
        cut = cut or any(item.status == "incomplete" for item in self._draft.items)
        cut = cut or any(call.is_cut for call in calls)
        estimate = self._context.estimated_input_tokens
        if cut:
            known = reason if reason == "content_filter" else "max_output_tokens"
            self._draft.leave_incomplete(known, self._usage, estimate)
        elif any(call.is_nameless for call in calls):
            self._fail(_NAMELESS)
        else:
            self._draft.complete(self._usage, estimate)

    def _fail(self, failure: Failure) -> None:
        self._draft.fail(failure, self._usage, self._context.estimated_input_tokens)
