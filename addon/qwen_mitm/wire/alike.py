"""Chunks that differ from one before them in their text alone: nearly all of a stream.

The bytes around the text are learned once; from then on comparing them tells what parsing would
tell, and only the text is cut out. This is safe, because

* the text is the whole body of a JSON string. It is matched from the quote that opens it, its
  characters and escapes are valid, and the next byte is a bare quote, which nothing but the end of
  a string can be;
* the same bytes around the body of another string are the same JSON with another value in that
  place, also where keys come twice;
* that this value is the text, and that the chunk says nothing else, parsing has shown: of the
  learned bytes around a text of our own;
* ids and times that change with every chunk are left out of the comparison only where parsing has
  shown that another value there changes nothing of what the chunk says;
* the SSE decoder is between two events before and after such a chunk: it is one line of data, and
  has no CR, so no other reader of the stream would see it otherwise;
* escapes are read by the parser that reads whole chunks, which refuses half a surrogate pair as it
  does there;
* whatever else comes is not recognised, is parsed as ever, and may teach another shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pydantic_core import from_json

from .chat import AnswerPart, AnswerReader
from .chat_chunk import ChatChunk

type Kind = Literal["text", "thought", "arguments"]

_BODY: Final = re.compile(rb"(?:[^\"\\\x00-\x1f]++|\\[\"\\/bfnrt]|\\u[0-9a-fA-F]{4})++")
_match_body: Final = _BODY.match
_TEXT: Final = re.compile(
    rb'"(?:content|reasoning_content|reasoning|arguments)": ?"(' + _BODY.pattern + rb')"'
)
_ONE_EVENT: Final = re.compile(rb"data:[^\r\n]*\n\n")
_PROBE: Final = "a text of our own"
#: Values that no model reads; each has a value of our own to show that.
_VARYING: Final = re.compile(
    rb'"(?:id|obfuscation)": ?"([ !#-\[\]-~]*)"|"created": ?((?:0|[1-9][0-9]{0,17})(?=[,}]))'
)
_ID: Final = re.compile(rb"[ !#-\[\]-~]*+")
_NUMBER: Final = re.compile(rb"(?:0|[1-9][0-9]{0,17})(?=[,}])")
#: What varies otherwise cannot be learned; then this is not tried for ever.
_MOST_LESSONS: Final = 16
#: A thought, a text, and calls side by side.
_MOST_SHAPES: Final = 6


@dataclass(slots=True)
class Run:
    """Chunks in a row that say what ``chunk`` says, each with another text, which is not empty."""

    kind: Kind
    chunk: ChatChunk
    """It has one choice without a finish reason and scores, no usage, and only this text."""
    texts: list[str]


class Shape:
    """The bytes of one chunk around its text, and around what varies otherwise."""

    def __init__(self, kind: Kind, chunk: ChatChunk, event: bytes, holes: list[Hole]) -> None:
        self.kind = kind
        self.chunk = chunk
        ends = [*(hole.start for hole in holes[1:]), len(event)]
        steps = [
            Step(hole.pattern, event[hole.end : end]) for hole, end in zip(holes, ends, strict=True)
        ]
        at = [hole.pattern for hole in holes].index(_BODY)
        self._head = event[: holes[0].start]
        self._before, self._after = steps[:at], steps[at + 1 :]
        self._tail = steps[at].literal

    def read(self, data: bytes, position: int, texts: list[str]) -> int:
        """Adds the texts of the chunks of this shape that begin here; the end of the last one."""
        head, tail, before, after = self._head, self._tail, self._before, self._after
        while data.startswith(head, position):
            start = position + len(head)
            if before and (start := _past(before, data, start)) < 0:
                break
            found = _match_body(data, start)
            if found is None:
                break
            end = found.end()
            if not data.startswith(tail, end):
                break
            rest = end + len(tail)
            if after and (rest := _past(after, data, rest)) < 0:
                break
            body = data[start:end]
            try:
                text = from_json(data[start - 1 : end + 1]) if b"\\" in body else body.decode()
            except ValueError:
                break
            texts.append(text)
            position = rest
            if position == len(data):
                break
        return position


class Hole(NamedTuple):
    """Bytes of an event in the place of which others may be."""

    start: int
    end: int
    pattern: re.Pattern[bytes]


class Step(NamedTuple):
    """What varies, and the bytes that follow it."""

    pattern: re.Pattern[bytes]
    literal: bytes


def _past(steps: list[Step], data: bytes, position: int) -> int:
    """The end of these bytes; -1: they are others."""
    for pattern, literal in steps:
        found = pattern.match(data, position)
        if found is None or not data.startswith(literal, found.end()):
            return -1
        position = found.end() + len(literal)
    return position


class Shapes:
    """Learns the shapes of one stream."""

    def __init__(self) -> None:
        self._lessons = 0
        self.known: list[Shape] = []
        """The one that was seen last is the first."""

    @property
    def are_hopeless(self) -> bool:
        return not self.known and self._lessons >= _MOST_LESSONS

    def learn(self, event: bytes, parts: list[AnswerPart]) -> None:
        """``event`` was not recognised, and ``parts`` is what it says."""
        if self._lessons >= _MOST_LESSONS or not _ONE_EVENT.fullmatch(event):
            return
        if len(parts) != 1 or not _is_text_alone(parts[0]):
            return
        self._lessons += 1
        for found in _TEXT.finditer(event):
            hole = Hole(found.start(1), found.end(1), _BODY)
            chunk = _read(_with(event, [(hole, _PROBE.encode())]))
            kind = None if chunk is None else _kind_of(chunk)
            if chunk is None or kind is None:
                continue
            holes = [hole]
            if any(shape.chunk == chunk for shape in self.known):
                # Not by its bytes: something varies that says nothing.
                holes = _varying(event, hole, chunk)
            self.known = [Shape(kind, chunk, event, holes), *self.known[: _MOST_SHAPES - 1]]
            return


class QuickReader:
    """Reads as ``AnswerReader`` does, and gives chunks that are alike as a run."""

    def __init__(self) -> None:
        self._reader = AnswerReader()
        self._shapes = Shapes()
        self._idle = False
        """The next byte is the first of an event."""

    def feed(self, data: bytes) -> list[AnswerPart | Run]:
        parts: list[AnswerPart | Run] = []
        position = 0
        if self._idle and self._shapes.known:
            # What nearly every read is, is tried first and alone.
            shape = self._shapes.known[0]
            texts: list[str] = []
            position = shape.read(data, 0, texts)
            if texts:
                parts.append(Run(shape.kind, shape.chunk, texts))
            if position == len(data):
                return parts
            position = self._runs(data, position, parts)
        while position < len(data):
            if self._shapes.are_hopeless:
                return [*parts, *self._reader.feed(data[position:])]
            end = data.find(b"\n\n", position) + 2
            event = data[position : end if end > 1 else len(data)]
            position += len(event)
            read = self._reader.feed(event)
            parts += read
            was_idle, self._idle = self._idle, self._reader.idle
            if was_idle and self._idle:
                self._shapes.learn(event, read)
            if self._idle:
                position = self._runs(data, position, parts)
        return parts

    def end(self) -> list[AnswerPart | Run]:
        return [*self._reader.end()]

    def _runs(self, data: bytes, position: int, parts: list[AnswerPart | Run]) -> int:
        """Adds the runs that begin here, and gives their end."""
        known = self._shapes.known
        found = True
        while found and position < len(data):
            found = False
            for place, shape in enumerate(known):
                texts: list[str] = []
                position = shape.read(data, position, texts)
                if texts:
                    parts.append(Run(shape.kind, shape.chunk, texts))
                    known.insert(0, known.pop(place))
                    found = True
                    break
        return position


def _with(event: bytes, values: list[tuple[Hole, bytes]]) -> bytes:
    for hole, value in sorted(values, reverse=True):
        event = event[: hole.start] + value + event[hole.end :]
    return event


def _varying(event: bytes, text: Hole, chunk: ChatChunk) -> list[Hole]:
    """The text's hole, and those of values that may vary without a change of what is said."""
    holes = [text]
    for found in _VARYING.finditer(event):
        group, pattern, other = (1, _ID, b"other") if found[1] is not None else (2, _NUMBER, b"1")
        hole = Hole(found.start(group), found.end(group), pattern)
        if not text.start <= hole.start < text.end:
            probe = [(text, _PROBE.encode()), (hole, other)]
            if _read(_with(event, probe)) == chunk:
                holes.append(hole)
    return sorted(holes)


def _read(event: bytes) -> ChatChunk | None:
    """The chunk that this event is, if it is one and leaves nothing behind."""
    reader = AnswerReader()
    match reader.feed(event):
        case [ChatChunk() as chunk] if reader.idle:
            return chunk
    return None


def _is_text_alone(part: AnswerPart) -> bool:
    """Whether a chunk has text and says nothing else."""
    if not isinstance(part, ChatChunk) or part.usage is not None or len(part.choices) != 1:
        return False
    choice = part.choice
    if choice is None or choice.finish_reason is not None or choice.logprobs is not None:
        return False
    delta = choice.delta
    others = delta.refusal or len(delta.tool_calls) > 1
    return not others and sum(map(bool, (delta.content, delta.reasoning, delta.tool_calls))) == 1


def _kind_of(chunk: ChatChunk) -> Kind | None:
    """In which place a chunk has our own text, and nothing beside it."""
    if not _is_text_alone(chunk) or chunk.choice is None:
        return None
    delta = chunk.choice.delta
    if delta.content == _PROBE:
        return "text"
    if delta.reasoning == _PROBE:
        return "thought"
    if delta.tool_calls and delta.tool_calls[0].arguments == _PROBE:
        return "arguments"
    return None
