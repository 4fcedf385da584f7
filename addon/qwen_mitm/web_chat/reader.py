"""The site's answer to one message: bytes in, parts of a Chat answer out (web-chat.md §5). Pure.

The rest of the system gets what any Chat host would have sent: text, thoughts, calls, usage and one
end. What is odd about the site ends here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from qwen_mitm.translate.leaks import Leaks
from qwen_mitm.wire.chat import (
    AnswerPart,
    ChatChunk,
    Choice,
    Delta,
    EndOfAnswer,
    Usage,
)
from qwen_mitm.wire.chat_request import AssistantMessage, ToolCall
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.sse import MAX_EVENT_BYTES, EventStreamDecoder

from .errors import (
    ProtocolChanged,
    Unavailable,
    WebChatError,
    blocked,
    is_firewall,
    refusal_error,
)
from .events import Chunk, PhaseChoice, PhaseDelta, parse_chunk, validate_parent_id

#: What a chat ends with, in the words of Chat Completions.
FINISH_REASONS: Final = {"finished": "stop", "length": "length", "stopped": "stop"}
_SUMMARY: Final = "thinking_summary"
_ANSWER: Final = frozenset({None, "", "answer"})
_EMPTY: Final = ChatChunk(choices=(Choice(delta=Delta()),))


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer. ``parent_id``: what the next message follows; None: the chain ends here."""

    message: AssistantMessage
    parent_id: str | None


class WebChatReader:
    """Reads the content-decoded body of a 2xx answer.

    ``offered`` has the schema of each tool that may be called. ``on_end`` is called once, before
    the last part is given out, and never for an answer that failed or broke off. ``redact`` takes
    the credentials out of the site's words.
    """

    def __init__(
        self,
        *,
        offered: Mapping[str, JsonObject],
        on_end: Callable[[Said], None] = lambda _: None,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.skipped = 0
        """How many events told nothing."""
        self.trouble: WebChatError | None = None
        """Why the answer failed."""
        self.parent_id: str | None = None
        self.usage: Usage | None = None
        # A model that was told in words how to call also quotes calls: those that a file holds.
        leaks = Leaks(think_tags=False, offered=offered, quotes_in_code=True)
        self._leaks = leaks if offered else None
        self._on_end = on_end
        self._redact = redact
        self._stream = EventStreamDecoder()
        self._head = bytearray()
        """The body, until its first byte that is no white space has shown what it is."""
        self._document: bytearray | None = None
        self._is_stream = False
        self._summary = ""
        self._transcript = _Transcript()
        self._over = False

    def feed(self, data: bytes) -> list[AnswerPart]:
        """The parts that these bytes complete, at once."""
        if self._over:
            return []
        if self._document is not None:
            self._document += data
            return self._too_large() if len(self._document) > MAX_EVENT_BYTES else []
        if not self._is_stream:
            self._head += data
            start = self._head.removeprefix(b"\xef\xbb\xbf").lstrip()
            if not start:
                return []
            if start.startswith(b"<"):
                return self._failed(blocked())
            data = bytes(self._head)
            self._head.clear()
            if start.startswith(b"{"):
                self._document = bytearray(data)
                return []
            self._is_stream = True
        parts = [part for event in self._stream.feed(data) for part in self._event(event.data)]
        return parts + self._too_large() if self._stream.overflowed and not self._over else parts

    def end(self) -> list[AnswerPart]:
        """What the end of the body completes: the last event, or the document.

        A stream that ends before its answer is finished has no end among its parts.
        """
        if self._over:
            return []
        if self._document is not None:
            return self._whole(bytes(self._document))
        parts = [part for event in self._stream.end() for part in self._event(event.data)]
        self._over = True
        return parts

    def rest(self) -> list[AnswerPart]:
        """What was held back, when the connection is lost."""
        return self._leaks.end() if self._leaks else []

    def _event(self, data: bytes) -> list[AnswerPart]:
        if self._over:
            return []
        if data.strip() == b"[DONE]":
            # It is no answer by itself.
            return self._finished("stop") if self._transcript.has_begun else []
        try:
            chunk = parse_chunk(data)
        except ValidationError:
            chunk = None
        if chunk is None:
            if is_firewall(data.decode("utf-8", "replace")) and data.lstrip().startswith(b"<"):
                return self._failed(blocked())
            self.skipped += 1
            return []
        return self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> list[AnswerPart]:
        if chunk.refusal is not None:
            return self._failed(refusal_error(chunk.refusal))
        if chunk.created is not None:
            self._note_parent(chunk.created.parent_id)
        if chunk.usage is not None and (chunk.usage.prompt_tokens or chunk.usage.completion_tokens):
            self.usage = chunk.usage
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        parts = self._said(choice.delta or choice.message or PhaseDelta())
        reason = _finish_reason(choice)
        return parts if reason is None else parts + self._finished(reason)

    def _note_parent(self, parent_id: str | None) -> None:
        try:
            self.parent_id = validate_parent_id(parent_id)
        except ValueError:
            self.parent_id = None

    def _said(self, delta: PhaseDelta) -> list[AnswerPart]:
        if delta.phase == _SUMMARY:
            thought = self._new_summary(delta)
            return self._mended(Delta(reasoning_content=thought)) if thought else []
        if not delta.content:
            return []
        if delta.phase in _ANSWER:
            return self._mended(Delta(content=delta.content))
        # Thinking, and whatever else the site does on the way to its answer.
        return self._mended(Delta(reasoning_content=delta.content))

    def _new_summary(self, delta: PhaseDelta) -> str:
        """The summary comes as a whole, and longer each time; in deltas from other versions."""
        summary = delta.extra.summary_thought if delta.extra else None
        text = "\n".join(summary.content) if summary else ""
        text = text or delta.content or ""
        if text.startswith(self._summary):
            new, self._summary = text[len(self._summary) :], text
            return new
        self._summary += text
        return text

    def _mended(self, delta: Delta, reason: str | None = None) -> list[AnswerPart]:
        chunk = ChatChunk(
            choices=(Choice(delta=delta, finish_reason=reason),),
            usage=self.usage if reason else None,
        )
        parts: list[AnswerPart] = self._leaks.feed([chunk]) if self._leaks else [chunk]
        if reason is None:
            # What is left of a text that was held back: an answer begins with what it says.
            parts = [part for part in parts if part != _EMPTY]
        self._transcript.add(parts)
        return parts

    def _finished(self, reason: str) -> list[AnswerPart]:
        self._over = True
        parts = self._mended(Delta(), reason)
        # A cut answer is none that the client will send back word by word.
        parent_id = self.parent_id if reason == "stop" else None
        self._on_end(Said(self._transcript.message(), parent_id))
        return [*parts, EndOfAnswer()]

    def _whole(self, data: bytes) -> list[AnswerPart]:
        """An answer that is one JSON document (web-chat.md §5.1), or an error."""
        try:
            chunk = parse_chunk(data)
        except ValidationError:
            chunk = None
        if chunk is None:
            return self._failed(Unavailable("chat.qwen.ai's answer is no JSON."))
        if chunk.refusal is not None:
            return self._failed(refusal_error(chunk.refusal))
        choices = chunk.choices or (chunk.data.choices if chunk.data else ())
        if not choices:
            return self._failed(ProtocolChanged("chat.qwen.ai's answer has no text."))
        if chunk.data is not None:
            self._note_parent(chunk.data.parent_id)
        self.usage = chunk.usage
        choice = choices[0]
        parts = self._said(choice.message or choice.delta or PhaseDelta())
        return parts + self._finished(_finish_reason(choice) or "stop")

    def _too_large(self) -> list[AnswerPart]:
        return self._failed(Unavailable("chat.qwen.ai sent more than any answer can hold."))

    def _failed(self, error: WebChatError) -> list[AnswerPart]:
        self._over = True
        error.message = self._redact(error.message)
        self.trouble = error
        return [*self.rest(), error.failure()]


def _finish_reason(choice: PhaseChoice) -> str | None:
    """Each phase says ``finished``; the answer is over with its own (web-chat.md §10, defect 4)."""
    if choice.finish_reason:
        return FINISH_REASONS.get(choice.finish_reason, "stop")
    delta = choice.delta
    if delta is None or delta.phase not in _ANSWER or delta.status is None:
        return None
    return FINISH_REASONS.get(delta.status)


class _Transcript:
    """An answer as the client will send it back: texts that something interrupts are several."""

    def __init__(self) -> None:
        self._texts: list[list[str]] = []
        self._calls: list[ToolCall] = []
        self._in_text = False

    def add(self, parts: Iterable[AnswerPart]) -> None:
        for part in parts:
            if not isinstance(part, ChatChunk):
                continue
            for choice in part.choices:
                self._add(choice.delta)

    def _add(self, delta: Delta) -> None:
        if delta.content:
            if not self._in_text:
                self._texts.append([])
            self._in_text = True
            self._texts[-1].append(delta.content)
        elif delta.reasoning or delta.tool_calls:
            self._in_text = False
        for call in delta.tool_calls:
            identity = f"call-{len(self._calls)}"
            self._calls.append(ToolCall(identity, call.name or "", call.arguments or "{}"))

    @property
    def has_begun(self) -> bool:
        return bool(self._texts or self._calls)

    def message(self) -> AssistantMessage:
        texts = ["".join(pieces) for pieces in self._texts]
        return AssistantMessage("\n".join(filter(None, texts)), None, tuple(self._calls))
