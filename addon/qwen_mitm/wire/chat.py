"""The upstream's answer to one request: bytes in, chunks and what stands in for them out.

Every event is parsed once, by pydantic, from bytes; only what does not look like a chunk is looked
at a second time.
"""

from __future__ import annotations

import json
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from .answer_body import BodyReader, EndOfAnswer, error_event, not_an_answer
from .chat_chunk import ChatChunk, Choice, Delta, Logprob, Logprobs, ToolCallDelta, Usage
from .error_body import Failure, failure_in, read_json
from .halves import CutPairs
from .sse import ServerSentEvent

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


class AnswerReader(BodyReader[ChatChunk]):
    """Reads the content-decoded body of a 200 answer: chunks, or one completion."""

    def __init__(self) -> None:
        super().__init__()
        self._pairs = CutPairs()

    @property
    def idle(self) -> bool:
        return super().idle and not self._pairs.waiting

    def _event(self, event: ServerSentEvent) -> AnswerPart | None:
        return error_event(event.data) if event.type == "error" else self._part(event.data)

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
        return failure_in(document) or not_an_answer(json.dumps(document).encode())
    if "choices" not in document and document.get("code") not in (None, "", 0, 200):
        return failure_in(document)
    return None


def _failure_of_document(data: bytes) -> Failure:
    try:
        document = read_json(data)
    except ValueError:
        return not_an_answer(data)
    if failure := failure_in(document):
        return failure
    return Failure("The upstream's answer has no choices.")
