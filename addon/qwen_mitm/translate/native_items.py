"""What becomes of each output item of a host that speaks Responses itself.

Messages, thoughts and calls are written anew, so that they are complete and belong to the tools
that the client declared; items of any other kind, such as those of a host's own search, pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from qwen_mitm.translate.call_fragments import JsonProgress
from qwen_mitm.translate.call_items import CALL_ITEMS, CallItem, CallStart
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft
from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.items import ItemStatus, Message, OutputItem, Reasoning
from qwen_mitm.translate.parts import OUTPUT_TEXT, REFUSAL, PartKind
from qwen_mitm.wire.chat_chunk import Logprob
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.upstream_events import UpstreamEvent, UpstreamItem, UpstreamPart


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the items appear."""

    context: AnswerContext
    draft: ResponseDraft
    make_way: Callable[[], None]
    """Closes the text that is open; to be called before another item is shown."""


class Slot:
    """An item of the upstream, while it grows."""

    kind: ClassVar[str] = ""
    """The type of the items that it is for."""
    is_text: ClassVar[bool] = False
    """At most one of these is open."""

    def __init__(self, stage: Stage, upstream_id: str | None):
        self.upstream_id = upstream_id
        self.item: OutputItem | None = None
        """The client's; None before there is enough to show."""
        self.closed = False
        self.interrupted = False
        """It was closed because the host began another, not because it is done."""
        self._stage = stage

    def take(self, event: UpstreamEvent) -> bool:
        """False: it means nothing here, and may pass as it is."""
        raise NotImplementedError

    def finish(self, upstream: UpstreamItem | None, status: ItemStatus) -> None:
        """The item is done; ``upstream`` is all of it, where the host says it once more."""
        raise NotImplementedError

    def _close(self, status: ItemStatus) -> None:
        self.closed = True
        if self.item is not None:
            self.item.close(status)

    def _show[T: OutputItem](self, item: T) -> T:
        self.item = item
        self._stage.draft.items.append(item)
        return item

    @property
    def _place(self) -> int:
        return len(self._stage.draft.items)


class Heard:
    """A text of the upstream: what of it is new when it is said once more as a whole."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def hear(self, piece: str) -> None:
        self._pieces.append(piece)

    def rest_of(self, whole: str | None) -> str:
        """What of the whole text did not come in pieces; what came counts where they differ."""
        so_far = "".join(self._pieces)
        if not whole or not whole.startswith(so_far):
            return ""
        return whole[len(so_far) :]


class MessageSlot(Slot):
    kind = "message"
    is_text = True

    def __init__(self, stage: Stage, upstream_id: str | None):
        super().__init__(stage, upstream_id)
        self._message = self._show(
            Message(stage.draft.events, stage.context.new_id("msg"), self._place)
        )
        self._heard: dict[int, Heard] = {}

    def take(self, event: UpstreamEvent) -> bool:
        index = event.content_index or 0
        match event.type:
            case "response.output_text.delta":
                self._say(OUTPUT_TEXT, index, event.delta, event.logprobs)
            case "response.refusal.delta":
                self._say(REFUSAL, index, event.delta)
            case "response.output_text.done":
                self._complete(index, UpstreamPart(type="output_text", text=event.text))
            case "response.refusal.done":
                self._complete(index, UpstreamPart(type="refusal", refusal=event.refusal))
            case "response.content_part.done" if event.part is not None:
                self._complete(index, event.part)
            case "response.output_text.annotation.added" if event.annotation is not None:
                self._message.part(OUTPUT_TEXT).annotate(event.annotation)
            case _:
                return event.type.startswith("response.content_part.")
        return True

    def finish(self, upstream: UpstreamItem | None, status: ItemStatus) -> None:
        for index, part in enumerate(upstream.content if upstream else ()):
            self._complete(index, part)
        self._close(status)

    def _say(
        self, kind: PartKind, index: int, text: str | None, scores: tuple[Logprob, ...] = ()
    ) -> None:
        if not text:
            return
        self._heard.setdefault(index, Heard()).hear(text)
        if scores:
            self._message.part(kind).append_scored(text, scores)
        else:
            self._message.part(kind).append(text)

    def _complete(self, index: int, part: UpstreamPart) -> None:
        heard = self._heard.setdefault(index, Heard())
        if part.type == "refusal":
            self._say(REFUSAL, index, heard.rest_of(part.refusal))
            return
        self._say(OUTPUT_TEXT, index, heard.rest_of(part.text), part.logprobs)
        if part.annotations:
            text = self._message.part(OUTPUT_TEXT)
            for annotation in part.annotations[text.annotations :]:
                text.annotate(annotation)


type _Source = Literal["summary", "content"]


class ThoughtSlot(Slot):
    """A thought, in the form that the client shows, whichever the host has."""

    kind = "reasoning"

    is_text = True

    def __init__(self, stage: Stage, upstream_id: str | None):
        super().__init__(stage, upstream_id)
        id_ = stage.context.new_id("rs")
        thought = Reasoning(
            stage.draft.events, id_, self._place, stage.context.reasoning, stage.context.seal
        )
        self._thought = self._show(thought)
        self._source: _Source | None = None
        """The first that says something: hosts that have both say the same twice."""
        self._index = 0
        self._heard: dict[int, Heard] = {}

    def take(self, event: UpstreamEvent) -> bool:
        source: _Source = "summary" if "summary" in event.type else "content"
        index = (event.summary_index if source == "summary" else event.content_index) or 0
        if event.type.endswith(".delta"):
            self._think(source, index, event.delta)
        elif event.type.endswith(".done"):
            whole = event.text or (event.part.text if event.part else None)
            self._complete(source, index, whole)
        else:
            return event.type.endswith("_part.added")
        return True

    def finish(self, upstream: UpstreamItem | None, status: ItemStatus) -> None:
        if upstream is not None:
            for index, part in enumerate(upstream.summary):
                self._complete("summary", index, part.text)
            for index, part in enumerate(upstream.content):
                self._complete("content", index, part.text)
            seal = self._stage.context.seal_of_host
            if upstream.encrypted_content and seal is not None:
                self._thought.keep(seal(upstream.encrypted_content))
        self._close(status)

    def _complete(self, source: _Source, index: int, whole: str | None) -> None:
        if self._source in (source, None):
            heard = self._heard.setdefault(index, Heard())
            self._think(source, index, heard.rest_of(whole))

    def _think(self, source: _Source, index: int, text: str | None) -> None:
        if not text or self._source not in (source, None):
            return
        apart = self._source is not None and index != self._index
        self._source, self._index = source, index
        self._heard.setdefault(index, Heard()).hear(text)
        self._thought.append(text, apart=apart)


class CallSlot(Slot):
    """A call of a function, which may stand for another kind of tool of the client's."""

    kind = "function_call"

    def __init__(self, stage: Stage, upstream: UpstreamItem):
        super().__init__(stage, upstream.id)
        self.is_cut = False
        """Its arguments break off."""
        self._call: CallItem | None = None
        self._call_id = upstream.call_id
        self._arguments = Heard()
        self._pieces: list[str] = []
        self._name = upstream.name
        self._open(whole=False)
        self._flow(upstream.arguments)

    @property
    def is_nameless(self) -> bool:
        return self._name is None

    def take(self, event: UpstreamEvent) -> bool:
        match event.type:
            case "response.function_call_arguments.delta":
                self._flow(event.delta)
            case "response.function_call_arguments.done":
                self._flow(self._arguments.rest_of(event.arguments))
            case _:
                return False
        return True

    def finish(self, upstream: UpstreamItem | None, status: ItemStatus) -> None:
        if upstream is not None:
            self._name = self._name or upstream.name
            self._call_id = self._call_id or upstream.call_id
            self._flow(self._arguments.rest_of(upstream.arguments))
        progress = JsonProgress()
        progress.feed("".join(self._pieces))
        self.is_cut = progress.is_cut_short
        if self.is_cut:
            status = "incomplete"
        if status == "completed":
            self._open(whole=True)
        self._close(status)

    def _flow(self, arguments: str | None) -> None:
        if arguments:
            self._arguments.hear(arguments)
            self._pieces.append(arguments)
            if self._call is not None:
                self._call.append(arguments)

    def _open(self, *, whole: bool) -> None:
        # allowed_tools is a hard limit: a call outside of it is suppressed (§5).
        tools = self._stage.context.tools
        if self._call is not None or self._name is None or not tools.permits(self._name):
            return
        route = tools.route(self._name)
        kind = CALL_ITEMS[route.kind]
        if kind.opens_whole and not whole:
            return
        self._stage.make_way()
        id_ = self._stage.context.new_id(kind.id_prefix)
        call_id = self._stage.draft.call_id(self._call_id)
        arguments = "".join(self._pieces)
        start = CallStart(self._stage.draft.events, id_, self._place, call_id, route, arguments)
        self._call = self._show(kind(start))


class PassedItem(OutputItem):
    """An item of a kind that only the host knows, as it came but for its place."""

    def __init__(self, events: EventWriter, id: str, output_index: int, raw: JsonObject) -> None:  # noqa: A002
        super().__init__(events, id, output_index)
        self.raw = raw
        self._announce()

    @property
    def characters(self) -> int:
        return 0

    def as_json(self, status: ItemStatus) -> JsonObject:
        # It is announced by its end alone, or told to be open by one that ended.
        told = self.raw.get("status")
        known = status == "in_progress" or told in (None, "in_progress")
        return {**self.raw, "id": self.id, "status": status if known else told}

    def _finish(self, status: ItemStatus) -> None:
        pass


class PassedSlot(Slot):
    def __init__(self, stage: Stage, upstream: UpstreamItem):
        super().__init__(stage, upstream.id)
        taken = {item.id for item in stage.draft.items}
        id_ = upstream.id if upstream.id not in (None, *taken) else None
        id_ = id_ or stage.context.new_id("item")
        if upstream.call_id is not None:
            stage.draft.call_id(upstream.call_id)
        self._passed = self._show(PassedItem(stage.draft.events, id_, self._place, upstream.raw))

    def take(self, event: UpstreamEvent) -> bool:
        return False

    def finish(self, upstream: UpstreamItem | None, status: ItemStatus) -> None:
        if upstream is not None:
            self._passed.raw = upstream.raw
        self._close(status)
