"""The answer of an upstream that speaks Responses itself: its events, typed.

As in chat_chunk.py, what a host fills wrongly and nothing depends on reads as absent. Every event
is parsed once; one that is not known keeps its JSON, so that it can be passed on.
"""

from __future__ import annotations

import json
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SkipValidation

from .answer_body import BodyReader, EndOfAnswer, error_event, not_an_answer
from .chat_chunk import CountedUsage, Logprob
from .error_body import Failure, failure_in, read_json
from .response_object import JsonObject
from .sse import ServerSentEvent

#: They begin an answer and say nothing of it.
_PRELUDES: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_NO_REASON: Final = "The upstream ended its answer with an error."


def _absent(_: object) -> None:
    return None


def _nothing(_: object) -> tuple[()]:
    return ()


def _as_text(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


# Members are tried in order: the usual ones cost nothing, the last ones a call into Python.
_Ordered: Final = Field(union_mode="left_to_right")
_Anything = Annotated[None, BeforeValidator(_absent)]
_None = Annotated[tuple[()], BeforeValidator(_nothing)]
_Word = Annotated[Annotated[str, Field(min_length=1)] | _Anything, _Ordered]
_Text = Annotated[str | _Anything, _Ordered]
_Index = Annotated[Annotated[int, Field(ge=0)] | _Anything, _Ordered]
_JsonText = Annotated[str | Annotated[str, BeforeValidator(_as_text)], _Ordered]
_Object = dict[str, Annotated[JsonValue, SkipValidation]]
_Logprobs = Annotated[tuple[Logprob, ...] | _None, _Ordered]


class _Upstream(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class UpstreamPart(_Upstream):
    """A piece of a message or of a thought."""

    type: _Word = None
    text: _Text = None
    refusal: _Text = None
    annotations: Annotated[tuple[_Object, ...] | _None, _Ordered] = ()
    logprobs: _Logprobs = ()


_Parts = Annotated[tuple[UpstreamPart, ...] | _None, _Ordered]


class UpstreamItem(_Upstream):
    type: _Word = None
    id: _Word = None
    status: _Word = None
    content: _Parts = ()
    summary: _Parts = ()
    encrypted_content: _Word = None
    call_id: _Word = None
    name: _Word = None
    arguments: _JsonText = ""
    raw: _Object = Field(default_factory=dict)
    """All of it, as it came."""


def _item(value: object) -> object:
    return {**value, "raw": value} if isinstance(value, dict) else None


_Item = Annotated[UpstreamItem | None, BeforeValidator(_item)]


class _Details(_Upstream):
    reason: _Word = None


class UpstreamResponse(_Upstream):
    """What its end says of a response."""

    status: _Word = None
    output: Annotated[tuple[_Item, ...] | _None, _Ordered] = ()
    usage: CountedUsage = None
    service_tier: _Word = None
    incomplete_details: Annotated[_Details | _Anything, _Ordered] = None


class UpstreamEvent(_Upstream):
    """One event; ``raw`` is all of it."""

    type: str
    output_index: _Index = None
    item_id: _Word = None
    content_index: _Index = None
    summary_index: _Index = None
    delta: _Text = None
    text: _Text = None
    refusal: _Text = None
    arguments: _Text = None
    logprobs: _Logprobs = ()
    annotation: Annotated[_Object | _Anything, _Ordered] = None
    part: Annotated[UpstreamPart | _Anything, _Ordered] = None
    item: _Item = None
    response: Annotated[UpstreamResponse | _Anything, _Ordered] = None
    raw: _Object


type ResponsesPart = UpstreamEvent | Failure | EndOfAnswer


class ResponsesReader(BodyReader[UpstreamEvent]):
    """Reads the content-decoded body of a 200 answer: events, or one Response object.

    What only begins an answer is left out: nothing is settled by it.
    """

    def _event(self, event: ServerSentEvent) -> ResponsesPart | None:
        data = event.data.strip()
        if data == b"[DONE]":
            return EndOfAnswer()
        if not data:
            return None
        if event.type == "error":
            return error_event(data)
        try:
            document = read_json(data)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            self.skipped += 1
            return None
        return self._read(document, event.type)

    def _read(self, document: JsonObject, name: str) -> ResponsesPart | None:
        kind = document.get("type")
        if not isinstance(kind, str):
            if failure := _failure(document):
                return failure
            kind = name
        if kind in _PRELUDES:
            return None
        if kind in ("error", "response.failed"):
            return _failed(document)
        if not kind.startswith("response."):
            self.skipped += 1
            return None
        return UpstreamEvent.model_validate({**document, "type": kind, "raw": document})

    def _document(self, data: bytes) -> list[ResponsesPart]:
        try:
            document = read_json(data.strip())
        except ValueError:
            return [not_an_answer(data)]
        if not isinstance(document, dict) or not isinstance(document.get("output"), list):
            return [failure_in(document) or Failure("The upstream's answer has no output.")]
        if document.get("status") == "failed" or document.get("error"):
            return [_failed({"response": document})]
        cut = document.get("status") == "incomplete"
        kind = "response.incomplete" if cut else "response.completed"
        fields: JsonObject = {"type": kind, "response": document}
        return [UpstreamEvent.model_validate({**fields, "raw": fields}), EndOfAnswer()]


def _failure(document: JsonObject) -> Failure | None:
    """An error without a type of event, as gateways write it."""
    if "response" in document or "item" in document or "delta" in document:
        return None
    return failure_in(document) if document.get("error") or "code" in document else None


def _failed(document: JsonObject) -> Failure:
    """Of an ``error`` event, flat or nested, or of ``response.failed``."""
    match document:
        case {"response": {"error": dict(error)}} if error:
            return failure_in({"error": error}) or Failure(_NO_REASON)
        case {"response": _}:
            return Failure(_NO_REASON)
    if document.get("error"):
        return failure_in(document) or Failure(_NO_REASON)
    # A flat event: its own type is no type of error.
    return failure_in({k: v for k, v in document.items() if k != "type"}) or Failure(_NO_REASON)
