"""What the behaviours of one request add up to, and the performance that comes of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from .answers import Answer
from .chunks import Shaper, chunks, completion
from .framing import Framing, frame
from .refusals import Refusal
from .responses import response_document, response_events
from .rules import Body
from .steps import Performance, Send, Staging, Step

_EVENT_STREAM = "text/event-stream;charset=UTF-8"


@dataclass(slots=True)
class Recipe:
    body: Body
    stream: bool
    answer: Answer
    responses: bool = False
    """Asked on ``/responses``."""
    refusal: Refusal | None = None
    shapers: list[Shaper] = field(default_factory=list)
    framing: Framing = field(default_factory=Framing)
    stagings: list[Staging] = field(default_factory=list)
    before: list[Step] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str | None = None
    hints: list[tuple[str, str]] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    until_close: bool = False
    gzip: bool = False

    def performance(self) -> Performance:
        if self.refusal is not None:
            return self._refused(self.refusal)
        if self.stream:
            return self._staged(200, self._frames(), _EVENT_STREAM)
        return self._document()

    def _frames(self) -> list[Step]:
        if self.responses:
            # The quirks of chunks are those of Chat.
            return frame(response_events(self.answer, self.body), self.framing)
        stream = chunks(self.answer, self.body)
        for shaper in self.shapers:
            stream = shaper(stream)
        return frame(stream, self.framing)

    def _document(self) -> Performance:
        if self.responses:
            document = response_document(self.answer, self.body)
        else:
            document = completion(self.answer, self.body["model"])
        data = json.dumps(document, ensure_ascii=False).encode()
        half = len(data) // 2
        steps: list[Step] = [Send(data[:half], 1), Send(data[half:], 1)]
        return self._staged(200, steps, "application/json", length=len(data))

    def _refused(self, refusal: Refusal) -> Performance:
        steps: list[Step] = [Send(refusal.body, 1)]
        self.headers += refusal.headers
        return self._staged(refusal.status, steps, refusal.content_type, length=len(refusal.body))

    def _staged(
        self, status: int, steps: list[Step], content_type: str, length: int | None = None
    ) -> Performance:
        for stage in self.stagings:
            steps = stage(steps)
        kind = content_type if self.content_type is None else self.content_type
        headers = [("content-type", kind)] if kind else []
        return Performance(
            status=status,
            headers=[*headers, ("x-request-id", str(uuid.uuid4())), *self.headers],
            steps=steps,
            before=self.before,
            hints=self.hints,
            trailers=self.trailers,
            until_close=self.until_close,
            gzip=self.gzip,
            content_length=None if self.stagings or self.trailers else length,
        )


type Behaviour = Callable[[Recipe, str], None]
"""What a behaviour's name does, given the text behind the name."""


def refused(refusal: Refusal, body: Body) -> Performance:
    """The performance of a bare refusal."""
    return Recipe(body=body, stream=False, answer=Answer(), refusal=refusal).performance()
