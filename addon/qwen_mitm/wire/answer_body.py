"""The body of an upstream's 200 answer: a stream of events, or one JSON document.

Which of them it is, its first byte says and not its content type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .error_body import Failure, failure_in, read_json, readable
from .sse import MAX_EVENT_BYTES, EventStreamDecoder, ServerSentEvent


@dataclass(frozen=True, slots=True)
class EndOfAnswer:
    """The answer is over, by ``[DONE]`` or because the JSON document is complete."""


_FIRST_BYTE: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*([^ \t\r\n\xef])")
_FIELD: Final = re.compile(rb"(?:^|[\r\n])(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_HEAD_BYTES: Final = 64 * 1024
_TOO_LARGE: Final = Failure("The upstream sent more at once than any answer can hold.")


class BodyReader[P]:
    """Bytes in, parts out, at once; the subclass says what an event and a document mean.

    Nothing comes after an ``EndOfAnswer`` or a ``Failure``.
    """

    def __init__(self) -> None:
        self.skipped = 0
        """How many events said nothing that is known; nothing of them was used."""
        self._over = False
        self._stream: EventStreamDecoder | None = None
        self._seen_event = False
        self._body = bytearray()
        """All of a document; of a stream its beginning, until it has shown that it is one."""

    def feed(self, data: bytes) -> list[P | Failure | EndOfAnswer]:
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
        return not self._over and stream is not None and self._seen_event and stream.idle

    def end(self) -> list[P | Failure | EndOfAnswer]:
        """What the end of the body completes: the last event, the document, or nothing."""
        if self._over:
            return []
        parts: list[P | Failure | EndOfAnswer] = []
        if self._stream is not None:
            parts = self._parts(self._stream.end())
            if not self._seen_event and not _FIELD.search(self._body):
                parts = [not_an_answer(bytes(self._body))]
        elif self._body.strip():
            parts = self._document(bytes(self._body))
        self._over = True
        return parts

    def _event(self, event: ServerSentEvent) -> P | Failure | EndOfAnswer | None:
        raise NotImplementedError

    def _document(self, data: bytes) -> list[P | Failure | EndOfAnswer]:
        raise NotImplementedError

    def _overflow(self) -> list[P | Failure | EndOfAnswer]:
        self._over = True
        self._body.clear()
        return [_TOO_LARGE]

    def _parts(self, events: list[ServerSentEvent]) -> list[P | Failure | EndOfAnswer]:
        parts: list[P | Failure | EndOfAnswer] = []
        for event in events:
            part = self._event(event)
            if part is None:
                continue
            parts.append(part)
            if isinstance(part, Failure | EndOfAnswer):
                self._over = True
                break
        if events and not self._seen_event:
            self._seen_event = True
            self._body.clear()
        return parts


def error_event(data: bytes) -> Failure:
    """What an event of type ``error`` says."""
    try:
        failure = failure_in(read_json(data))
    except ValueError:
        failure = None
    return failure or Failure(readable(data) or "The upstream sent an error without a message.")


def not_an_answer(body: bytes) -> Failure:
    words = readable(body) or "an empty page"
    return Failure(f"The upstream sent something that is not a model's answer: {words}")
