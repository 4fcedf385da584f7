"""Texts that grow, with their events: the parts of messages and thoughts (responses-to-chat §8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from pydantic import JsonValue

from qwen_mitm.translate.events import DeltaFrame, EventWriter
from qwen_mitm.wire.chat import Logprob
from qwen_mitm.wire.response_object import JsonObject


@dataclass(frozen=True, slots=True)
class PartKind:
    """The names in which the four kinds of text differ."""

    type: str
    text_key: str
    index_key: str
    part_event: str
    text_event: str


OUTPUT_TEXT: Final = PartKind(
    type="output_text",
    text_key="text",
    index_key="content_index",
    part_event="response.content_part",
    text_event="response.output_text",
)
REFUSAL: Final = PartKind(
    type="refusal",
    text_key="refusal",
    index_key="content_index",
    part_event="response.content_part",
    text_event="response.refusal",
)
REASONING_TEXT: Final = PartKind(
    type="reasoning_text",
    text_key="text",
    index_key="content_index",
    part_event="response.content_part",
    text_event="response.reasoning_text",
)
SUMMARY_TEXT: Final = PartKind(
    type="summary_text",
    text_key="text",
    index_key="summary_index",
    part_event="response.reasoning_summary_part",
    text_event="response.reasoning_summary_text",
)


class TextPart:
    """A piece of text that grows: of a message or of a thought."""

    def __init__(
        self, events: EventWriter, kind: PartKind, item_id: str, output_index: int, index: int
    ) -> None:
        self.kind = kind
        self._events = events
        self._texts: list[str] = []
        self._logprobs: list[Logprob] = []
        self._annotations: list[JsonValue] = []
        self._where: JsonObject = {
            "item_id": item_id,
            "output_index": output_index,
            kind.index_key: index,
        }
        self._frame = DeltaFrame(f"{kind.text_event}.delta", self._where)
        events.write(f"{kind.part_event}.added", {**self._where, "part": self.as_json()})

    @property
    def text(self) -> str:
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    def append(self, text: str) -> None:
        self._texts.append(text)
        self._events.write_delta(self._frame, text)

    def extend(self, texts: Sequence[str]) -> None:
        """The same, once for each text."""
        self._texts.extend(texts)
        self._events.write_deltas(self._frame, texts)

    def append_scored(self, text: str, logprobs: Iterable[Logprob]) -> None:
        """Text with the log probabilities of its tokens."""
        tokens = list(logprobs)
        self._texts.append(text)
        self._logprobs += tokens
        self._events.write(
            f"{self.kind.text_event}.delta",
            {
                **self._where,
                "delta": text,
                **self._events.padding(text),
                "logprobs": _logprobs(tokens, with_bytes=False),
            },
        )

    def annotate(self, annotation: JsonObject) -> None:
        """A source of the text, as a host's own search gives it."""
        self._events.write(
            f"{self.kind.text_event}.annotation.added",
            {
                **self._where,
                "annotation_index": len(self._annotations),
                "annotation": annotation,
            },
        )
        self._annotations.append(annotation)

    @property
    def annotations(self) -> int:
        return len(self._annotations)

    def close(self) -> None:
        kind = self.kind
        done: JsonObject = {**self._where, kind.text_key: self.text}
        if kind is OUTPUT_TEXT:
            done["logprobs"] = _logprobs(self._logprobs, with_bytes=False)
        self._events.write(f"{kind.text_event}.done", done)
        self._events.write(f"{kind.part_event}.done", {**self._where, "part": self.as_json()})

    def as_json(self) -> JsonObject:
        part: JsonObject = {"type": self.kind.type, self.kind.text_key: self.text}
        if self.kind is OUTPUT_TEXT:
            part["annotations"] = [*self._annotations]
            part["logprobs"] = _logprobs(self._logprobs, with_bytes=True)
        return part


def _logprobs(tokens: Iterable[Logprob], *, with_bytes: bool) -> list[JsonValue]:
    """The events leave out the bytes that the part has (§8)."""
    mapped: list[JsonValue] = []
    for token in tokens:
        scored = [token, *token.top_logprobs]
        scores: list[JsonObject] = [
            # JSON has no infinity; this is how OpenAI writes it.
            {"token": it.token, "logprob": it.logprob if isfinite(it.logprob) else -9999.0}
            for it in scored
        ]
        if with_bytes:
            for it, score in zip(scored, scores, strict=True):
                # Some hosts leave them out, and the SDK's types want a list.
                octets = it.bytes or it.token.encode("utf-8", "surrogatepass")
                score["bytes"] = list(octets)
        mapped.append({**scores[0], "top_logprobs": [*scores[1:]]})
    return mapped
