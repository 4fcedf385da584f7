"""Answers of an upstream that speaks Responses itself, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from pydantic import JsonValue

from qwen_mitm.translate.draft import AnswerContext
from qwen_mitm.translate.native_assembler import NativeAssembler
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.upstream_events import ResponsesReader
from tests.event_checker import Event, check_events, events_of
from tests.translate.answers import plain_context

USAGE: JsonObject = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 12,
}


def said(type: str, **fields: JsonValue) -> bytes:  # noqa: A002 - the event's own name
    document = {"type": f"response.{type}", **fields}
    return f"event: response.{type}\ndata: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


def added(index: int, type: str, **fields: JsonValue) -> bytes:  # noqa: A002
    return said("output_item.added", output_index=index, item={"type": type, **fields})


def done(index: int, type: str, **fields: JsonValue) -> bytes:  # noqa: A002
    item: JsonObject = {"type": type, "status": "completed", **fields}
    return said("output_item.done", output_index=index, item=item)


def text(delta: str, index: int = 0) -> bytes:
    return said("output_text.delta", output_index=index, content_index=0, delta=delta)


def arguments(delta: str, index: int = 0) -> bytes:
    return said("function_call_arguments.delta", output_index=index, delta=delta)


def call(index: int, name: str, whole: str, call_id: str = "call_1") -> bytes:
    """A whole call, in two pieces."""
    half = len(whole) // 2
    begun = added(index, "function_call", id=f"fc-{index}", call_id=call_id, name=name)
    ended = done(
        index, "function_call", id=f"fc-{index}", call_id=call_id, name=name, arguments=whole
    )
    return begun + arguments(whole[:half], index) + arguments(whole[half:], index) + ended


def completed(*output: JsonObject, **fields: JsonValue) -> bytes:
    response: JsonObject = {
        "id": "host-1",
        "status": "completed",
        "output": list(output),
        "usage": USAGE,
        **fields,
    }
    return said("completed", response=response)


def incomplete(reason: str) -> bytes:
    response: JsonObject = {"status": "incomplete", "incomplete_details": {"reason": reason}}
    return said("incomplete", response=response)


class NativeAnswer:
    """A whole answer, checked against all the rules of a stream."""

    def __init__(self, pieces: Iterable[bytes], context: AnswerContext | None = None) -> None:
        reader = ResponsesReader()
        assembler = NativeAssembler(context or plain_context())
        self.stream = assembler.start()
        for piece in pieces:
            self.stream += assembler.feed(reader.feed(piece))
        self.stream += assembler.feed(reader.end()) + assembler.end()
        self.events: list[Event] = events_of(self.stream)
        check_events(self.events, native=True)
        self.response: Event = self.events[-1]["response"]
        assert self.response == assembler.response()

    @property
    def output(self) -> list[Event]:
        output: list[Event] = self.response["output"]
        return output

    @property
    def status(self) -> str:
        status: str = self.response["status"]
        return status

    @property
    def texts(self) -> list[str]:
        """The text of each message."""
        return [
            "".join(part.get("text", part.get("refusal")) for part in item["content"])
            for item in self.output
            if item["type"] == "message"
        ]

    @property
    def types(self) -> list[str]:
        return [event["type"].removeprefix("response.") for event in self.events]


def native(*pieces: bytes, **changes: object) -> NativeAnswer:
    """The answer to these pieces; ``changes`` are fields of the context."""
    # replace() checks the names of the fields; their types are the tests' own business.
    return NativeAnswer(pieces, replace(plain_context(), **changes))  # type: ignore[arg-type]
