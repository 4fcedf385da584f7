"""Answers of an upstream, written shortly, and what the assembler makes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from pydantic import JsonValue

from qwen_mitm.translate.assembler import AnswerContext, Assembler
from qwen_mitm.translate.compaction import Compactor
from qwen_mitm.translate.draft import ResponseDraft
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat import AnswerReader, ChatChunk
from qwen_mitm.wire.response_object import JsonObject, ResponseEcho
from tests.event_checker import Event, check_events, events_of

DONE = b"data: [DONE]\n\n"


def numbered_ids() -> Callable[[str], str]:
    count: Counter[str] = Counter()

    def new_id(prefix: str) -> str:
        count[prefix] += 1
        return f"{prefix}_{count[prefix]}"

    return new_id


def ticking_clock() -> Callable[[], float]:
    seconds = iter(range(1_760_000_000, 1_770_000_000))
    return lambda: float(next(seconds))


def plain_context() -> AnswerContext:
    return AnswerContext(
        echo=ResponseEcho(model="qwen3-coder-plus"),
        tools=ToolTable(),
        reasoning="content",
        new_id=numbered_ids(),
        clock=ticking_clock(),
        estimated_input_tokens=11,
    )


def event(data: JsonObject) -> bytes:
    return b"data: %b\n\n" % json.dumps(data).encode()


def chunk(delta: JsonObject | None = None, finish: str | None = None, **more: JsonValue) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more})


def text(content: str, finish: str | None = None) -> bytes:
    return chunk({"content": content}, finish)


def thought(content: str) -> bytes:
    return chunk({"reasoning_content": content})


def fragment(
    arguments: JsonValue = None,
    *,
    index: int | None = None,
    id: str | None = None,  # noqa: A002 - the name of the field
    name: str | None = None,
) -> JsonObject:
    function: JsonObject = {}
    if name is not None:
        function["name"] = name
    if arguments is not None:
        function["arguments"] = arguments
    call: JsonObject = {"function": function}
    if index is not None:
        call["index"] = index
    if id is not None:
        call["id"] = id
    return call


def call(
    arguments: JsonValue = None,
    *,
    index: int | None = None,
    id: str | None = None,  # noqa: A002 - the name of the field
    name: str | None = None,
) -> bytes:
    return chunk({"tool_calls": [fragment(arguments, index=index, id=id, name=name)]})


def usage(prompt: int = 5, completion: int = 7) -> bytes:
    counts: JsonObject = {"prompt_tokens": prompt, "completion_tokens": completion}
    return event({"choices": [], "usage": counts})


def maker(context: AnswerContext) -> Assembler | Compactor[ChatChunk]:
    if context.seal_summary is None:
        return Assembler(context)
    return Compactor(context, ResponseDraft(context), Assembler, context.seal_summary)


class Answer:
    """A whole answer, checked against all the rules of a stream."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        context: AnswerContext | None = None,
        assembler: Assembler | Compactor[ChatChunk] | None = None,
    ) -> None:
        reader = AnswerReader()
        self.assembler = assembler or maker(context or plain_context())
        self.stream = self.assembler.start()
        for piece in pieces:
            self.stream += self.assembler.feed(reader.feed(piece))
        self.stream += self.assembler.feed(reader.end()) + self.assembler.end()
        self.events: list[Event] = events_of(self.stream)
        check_events(self.events)
        self.response: Event = self.events[-1]["response"]
        assert self.response == self.assembler.response()

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
    def calls(self) -> list[tuple[str, str, str]]:
        """Id, name and arguments of each call."""
        return [
            (item["call_id"], item["name"], item["arguments"])
            for item in self.output
            if item["type"] == "function_call"
        ]

    def of_type(self, type_: str) -> list[Event]:
        return [event for event in self.events if event["type"] == type_]


def answer(*pieces: bytes, **changes: object) -> Answer:
    """The answer to these pieces; ``changes`` are fields of the context."""
    # replace() checks the names of the fields; their types are the tests' own business.
    return Answer(pieces, replace(plain_context(), **changes))  # type: ignore[arg-type]
