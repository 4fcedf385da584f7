"""The upstream's answer to one request: bytes in, chunks and what stands in for them out.

Every event is parsed once, by pydantic, from bytes; only what does not look like a chunk is looked
at a second time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from .chat_chunk import ChatChunk, Choice, Delta, Logprob, Logprobs, ToolCallDelta, Usage
from .error_body import Failure, failure_in, read_json, readable
from .halves import CutPairs
from .sse import MAX_EVENT_BYTES, EventStreamDecoder, ServerSentEvent

__all__ = [
    "ENDED_WITH_AN_ERROR",
    "ERROR_FINISH",
    "AnswerPart",
    "AnswerReader",
    "ChatChunk",
    "Choice",
    "Delta",
    "EndOfAnswer",
    "Failure",
    "Logprob",
    "Logprobs",
    "ToolCallDelta",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class EndOfAnswer:
    """The answer is over, by ``[DONE]`` or because the JSON document is complete."""


type AnswerPart = ChatChunk | Failure | EndOfAnswer

ERROR_FINISH: Final = "error_finish"
"""The ``finish_reason`` of Model Studio's errors, and their code here: its words are in the place
of the answer (qwen.md §2.7)."""
ENDED_WITH_AN_ERROR: Final = Failure(
    "The upstream ended its answer with an error.", code=ERROR_FINISH
)
"""Without any words."""

# model_validate_json does the same and takes a fifth longer.
_CHUNK: Final = TypeAdapter(ChatChunk).validator
_FIRST_BYTE: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*([^ \t\r\n\xef])")
_FIELD: Final = re.compile(rb"(?:^|[\r\n])(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_HEAD_BYTES: Final = 64 * 1024
_TOO_LARGE: Final = Failure("The upstream sent more at once than any answer can hold.")


class AnswerReader:
    """Reads the content-decoded body of a 200 answer: a stream of events or one JSON document.

    Which of them it is, its first byte says and not its content type. Nothing comes after an
    ``EndOfAnswer`` or a ``Failure``.
    """

    def __init__(self) -> None:
        self.skipped = 0
        """How many events were no chunks and no errors; nothing of them was used."""
        self._over = False
        self._stream: EventStreamDecoder | None = None
        self._seen_event = False
        self._pairs = CutPairs()
        self._body = bytearray()
        """All of a document; of a stream its beginning, until it has shown that it is one."""

    def feed(self, data: bytes) -> list[AnswerPart]:
        """The parts that these bytes complete, at once."""
        if self._over:
            return []
        if not self._seen_event:
            self._body += data
            if self._stream is None:
                if self._body.isspace():
                    # OpenRouter sends white space while a document is not ready.
                    self._body.clear()
                first = _FIRST_BYTE.match(self._body)
                if first is None or first[1] in b"{[<":
                    return self._overflow() if len(self._body) > MAX_EVENT_BYTES else []
                self._stream = EventStreamDecoder()
                data = bytes(self._body)
            del self._body[_HEAD_BYTES:]
        assert self._stream is not None
        parts = self._parts(self._stream.feed(data))
        if self._stream.overflowed and not self._over:
            parts += self._overflow()
        return parts

    @property
    def idle(self) -> bool:
        """Whether it is a stream, and the next byte is the first of an event."""
        stream = self._stream
        if self._over or stream is None or self._pairs.waiting:
            return False
        return self._seen_event and stream.idle

    def end(self) -> list[AnswerPart]:
        """What the end of the body completes: the last event, the document, or nothing."""
        if self._over:
            return []
        parts: list[AnswerPart] = []
        if self._stream is not None:
            parts = self._parts(self._stream.end())
            if not self._seen_event and not _FIELD.search(self._body):
                parts = [_not_an_answer(bytes(self._body))]
        elif self._body.strip():
            parts = self._document(bytes(self._body))
        self._over = True
        return parts

    def _overflow(self) -> list[AnswerPart]:
        self._over = True
        self._body.clear()
        return [_TOO_LARGE]

    def _parts(self, events: list[ServerSentEvent]) -> list[AnswerPart]:
        parts: list[AnswerPart] = []
        for event in events:
            part = _error_event(event.data) if event.type == "error" else self._part(event.data)
            if part is None:
                continue
            parts.append(part)
            if not isinstance(part, ChatChunk):
                self._over = True
                break
        if events and not self._seen_event:
            self._seen_event = True
            self._body.clear()
        return parts

    def _part(self, data: bytes) -> AnswerPart | None:
        if not data.startswith(b"{"):
            data = data.strip()
            if data == b"[DONE]":
                return EndOfAnswer()
            if not data:
                return None
        if self._pairs.waiting:
            data = self._pairs.join(data)
        try:
            part = _checked(_CHUNK.validate_json(data), data)
        except ValidationError:
            part = _reread(self._pairs.cut(data))
        if part is None:
            self.skipped += 1
        return part

    def _document(self, data: bytes) -> list[AnswerPart]:
        data = data.removeprefix(b"\xef\xbb\xbf").strip()
        part = _read(data)
        match part:
            case ChatChunk(choices=(_, *_)):
                return [part, EndOfAnswer()]
            case Failure():
                return [part]
            case _:
                return [_failure_of_document(data)]


def _read(data: bytes) -> ChatChunk | Failure | None:
    try:
        return _checked(_CHUNK.validate_json(data), data)
    except ValidationError:
        return _reread(data)


def _checked(chunk: ChatChunk, data: bytes) -> ChatChunk | Failure | None:
    if chunk.error or not chunk.choices or chunk.object_type == "error":
        return _without_answer(chunk, data)
    choice = chunk.choices[0]
    if choice.finish_reason == ERROR_FINISH:
        words = choice.delta.content
        return Failure(words, code=ERROR_FINISH) if words else ENDED_WITH_AN_ERROR
    return chunk


def _reread(data: bytes) -> ChatChunk | Failure | None:
    """What did not validate: an error of any shape, a chunk with broken characters, or neither."""
    try:
        document = read_json(data)
    except ValueError:
        return None
    if failure := _error_in(document):
        return failure
    try:
        return ChatChunk.model_validate(document)
    except ValidationError:
        return None


def _without_answer(chunk: ChatChunk, data: bytes) -> ChatChunk | Failure | None:
    if failure := _error_in(read_json(data)):
        return failure
    is_chunk = chunk.usage is not None or "choices" in chunk.model_fields_set
    return chunk if is_chunk else None


def _error_in(document: JsonValue) -> Failure | None:
    """The error that takes the place of a chunk; a mere ``message`` is not enough for one."""
    if not isinstance(document, dict):
        return None
    if error := document.get("error"):
        return failure_in(document) or Failure(json.dumps(error, ensure_ascii=False))
    if document.get("object") == "error" or "detail" in document:
        return failure_in(document) or _not_an_answer(json.dumps(document).encode())
    if "choices" not in document and document.get("code") not in (None, "", 0, 200):
        return failure_in(document)
    return None


def _error_event(data: bytes) -> Failure:
    try:
        failure = failure_in(read_json(data))
    except ValueError:
        failure = None
    return failure or Failure(readable(data) or "The upstream sent an error without a message.")


def _failure_of_document(data: bytes) -> Failure:
    try:
        document = read_json(data)
    except ValueError:
        return _not_an_answer(data)
    if failure := failure_in(document):
        return failure
    return Failure("The upstream's answer has no choices.")


def _not_an_answer(body: bytes) -> Failure:
    words = readable(body) or "an empty page"
    return Failure(f"The upstream sent something that is not a model's answer: {words}")
