"""One response while it is made: its items, the numbers of its events, and its one end (§7, §8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from qwen_mitm.translate.events import EventWriter, ObfuscatingWriter, encode_json
from qwen_mitm.translate.items import ItemStatus, OutputItem, Reasoning
from qwen_mitm.translate.outcome import error_object, estimated_usage
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat import EndOfAnswer, Failure
from qwen_mitm.wire.response_object import JsonObject, ResponseEcho, ResponseStatus, Snapshot
from qwen_mitm.wire.sse import DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerContext:
    """What the answer depends on besides the upstream."""

    echo: ResponseEcho
    tools: ToolTable
    reasoning: Literal["summary", "content"]
    new_id: Callable[[str], str]
    """A new id for a prefix (``resp``, ``msg``, ``rs``, ``call``, a call item's), as ``msg_…``."""
    clock: Callable[[], float]
    estimated_input_tokens: int
    seal: Callable[[str], str] | None = None
    """Makes ``encrypted_content`` of a thought."""
    seal_of_host: Callable[[str], str] | None = None
    """The same of what a host encrypted itself."""
    seal_summary: Callable[[str], str] | None = None
    """Makes the compaction item's; None: the answer is none."""
    noise: Callable[[int], str] | None = None
    """Makes so many random characters; None: the lengths of the deltas may be seen."""


class ResponseMaker[P](Protocol):
    """Makes the events of one response of what the upstream says.

    Every method that returns bytes returns the frames of the events that it caused.
    """

    @property
    def finished(self) -> bool:
        """The terminal event was produced; nothing follows."""

    @property
    def ending(self) -> bool:
        """The upstream has said all but perhaps a word at the end, such as usage."""

    @property
    def error(self) -> Failure | None:
        """Why the response failed."""

    def start(self) -> bytes: ...

    def feed(self, parts: Iterable[P | Failure | EndOfAnswer]) -> bytes: ...

    def end(self, reason: Failure | None = None) -> bytes: ...

    def fail(self, failure: Failure) -> bytes: ...

    def response(self) -> JsonObject:
        """The Response object so far."""


class ResponseDraft:
    """What a response has said so far.

    It may be begun, for a client that waits, before it is known who will answer; whoever does goes
    on with it.
    """

    def __init__(self, context: AnswerContext) -> None:
        self.finished = False
        """The terminal event was produced; nothing follows."""
        self.error: Failure | None = None
        """Why the response failed."""
        self.incomplete_reason: str | None = None
        """Why the answer ended too early."""
        self.usage_is_estimated = False
        noise = context.noise
        self.events = EventWriter() if noise is None else ObfuscatingWriter(noise)
        self.items: list[OutputItem] = []
        self.service_tier = context.echo.service_tier
        self._clock = context.clock
        self._new_id = context.new_id
        self._id = context.new_id("resp")
        self._created_at = int(context.clock())
        self._completed_at: int | None = None
        self._status: ResponseStatus = "in_progress"
        self._usage: JsonObject | None = None
        self._started = False
        self._call_ids: set[str] = set()
        self._constant = context.echo.constant_part()
        self._encoded_constant = encode_json(self._constant)[1:]

    def start(self) -> None:
        """Writes ``response.created`` and ``response.in_progress``, once."""
        if not self._started:
            self._started = True
            self._write_snapshot("response.created")
            self._write_snapshot("response.in_progress")

    @property
    def usage(self) -> JsonObject | None:
        """Once the response has ended."""
        return self._usage

    def take(self) -> bytes:
        """The frames of all that was written since the last call."""
        # Nothing is written after the terminal event, so the marker goes out with it, once.
        frames = self.events.take()
        return frames + DONE if frames and self.finished else frames

    def response(self) -> JsonObject:
        """The Response object so far."""
        return {**self._snapshot().variable_part(), **self._constant}

    def call_id(self, wanted: str | None) -> str:
        """The upstream's id of a call, or a new one where it has none or uses one twice."""
        if not wanted or wanted in self._call_ids:
            wanted = self._new_id("call")
        self._call_ids.add(wanted)
        return wanted

    def complete(self, usage: JsonObject | None, estimated_input_tokens: int) -> None:
        """All items are done."""
        self._completed_at = int(self._clock())
        self._end_with("completed", usage, estimated_input_tokens)

    def leave_incomplete(
        self, reason: str, usage: JsonObject | None, estimated_input_tokens: int
    ) -> None:
        """All items are done, as far as they came."""
        self.incomplete_reason = reason
        self._end_with("incomplete", usage, estimated_input_tokens)

    def fail(self, failure: Failure, usage: JsonObject | None, estimated_input_tokens: int) -> None:
        """Items may be open."""
        self.error = failure
        self._end_with("failed", usage, estimated_input_tokens)

    def _end_with(
        self, status: ResponseStatus, usage: JsonObject | None, estimated_input_tokens: int
    ) -> None:
        self._status = status
        self._usage = usage
        if usage is None:
            self.usage_is_estimated = True
            self._usage = estimated_usage(
                estimated_input_tokens,
                written=sum(item.characters for item in self.items),
                thought=sum(it.characters for it in self.items if isinstance(it, Reasoning)),
            )
        self.finished = True
        self._write_snapshot(f"response.{status}")

    def _write_snapshot(self, type: str) -> None:  # noqa: A002 - the event's own name
        variable = encode_json(self._snapshot().variable_part())[:-1]
        self.events.write_encoded(type, f'"response":{variable},{self._encoded_constant}')

    def _snapshot(self) -> Snapshot:
        reason = self.incomplete_reason
        default_tier = "default" if self.finished else "auto"
        # What a failure left open was cut, and nothing of it was reported as done.
        still_open: ItemStatus = "incomplete" if self._status == "failed" else "in_progress"
        return Snapshot(
            id=self._id,
            created_at=self._created_at,
            completed_at=self._completed_at,
            status=self._status,
            service_tier=self.service_tier or default_tier,
            error=None if self.error is None else error_object(self.error),
            incomplete_details=None if reason is None else {"reason": reason},
            output=[
                item.as_json(still_open if item.is_open else item.status) for item in self.items
            ],
            usage=self._usage,
        )
