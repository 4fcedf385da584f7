"""A client's answer, put together again from its events, and when they came. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from qwen_mitm.inspection.wording import read_json

type Json = dict[str, JsonValue]

_END = b"\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """``end`` is where it ends in the body."""

    type: str
    data: bytes
    end: int


@dataclass(slots=True)
class Answer:
    """The items as far as they are known, and the Response object if there is one."""

    output: list[JsonValue] = field(default_factory=list)
    response: Json | None = None


def events(body: bytes) -> Iterator[Event]:
    """The events of a stream that was made here: one line of data each. Comments are left out."""
    start = 0
    while (end := body.find(_END, start)) >= 0:
        head, _, data = body[start:end].partition(b"\n")
        start = end + len(_END)
        if head.startswith(b"event: "):
            kind = head.removeprefix(b"event: ").decode("utf-8", "replace")
            yield Event(kind, data.removeprefix(b"data: "), start)


def assembled(body: bytes) -> Answer:
    """What the body says: a stream, also one that has not ended, or a JSON document."""
    if body.lstrip().startswith(b"{"):
        return _of_document(read_json(body))
    found = list(events(body))
    for event in reversed(found):
        if event.type in ("response.completed", "response.incomplete", "response.failed"):
            match read_json(event.data):
                case {"response": dict(response)} if response.get("output"):
                    return _of_document(response)
            break
    return _folded(found)


def _of_document(document: JsonValue) -> Answer:
    if not isinstance(document, dict):
        return Answer()
    output = document.get("output")
    return Answer(output if isinstance(output, list) else [], document)


def _folded(found: list[Event]) -> Answer:
    """The items of an answer whose last event is missing or has none."""
    answer = Answer()
    items: dict[int, Json] = {}
    for event in found:
        match read_json(event.data):
            case {"output_index": int(index), "item": dict(item)}:
                items[index] = dict(item)
            case {"output_index": int(index), "delta": str(delta)} if index in items:
                _add(items[index], event.type, delta)
            case {"response": dict(response)}:
                answer.response = response
    answer.output = [items[index] for index in sorted(items)]
    return answer


def _add(item: Json, kind: str, delta: str) -> None:
    """Texts of all parts are one here: the item comes whole when it is done."""
    match kind:
        case "response.function_call_arguments.delta":
            item["arguments"] = f"{item.get('arguments') or ''}{delta}"
        case "response.custom_tool_call_input.delta":
            item["input"] = f"{item.get('input') or ''}{delta}"
        case _:
            match item.get("content"):
                case [{"text": str(text)}]:
                    item["content"] = [{"text": text + delta}]
                case _:
                    item["content"] = [{"text": delta}]
