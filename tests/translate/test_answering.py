"""A chunk that is recognised by its bytes says what it would say if it were parsed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.translate.answering import Answering, ChatAnswering, Terms
from qwen_mitm.translate.assembler import AnswerContext, Assembler
from qwen_mitm.wire.alike import Run
from qwen_mitm.wire.chat import AnswerReader, ChatChunk
from qwen_mitm.wire.response_object import JsonObject
from tests.translate.answers import plain_context
from tests.translate.sending import translated

ODD_TEXTS = (
    *("a", "=", "==", "\n", '"', "\\", "/", "\x7f", "\x00", "\x1b", "\u2028", "é", "你", "👋", ""),
    *("\ud83d", "\udc4b", '","x":"', "{}", '{"', '"}', "null", " ", '\\"', "data: x\n\n"),
)
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(ODD_TEXTS))
SAYS = st.sampled_from(["content", "content", "reasoning_content", "reasoning", "refusal", "call"])
CALL_IDS = st.sampled_from(["", None, "call_a", "call_b"])
NAMES = st.sampled_from([None, "", "look", "patch"])
NAMED = ["look", "patch"]
NUMBERS = st.integers(0, 3)
EXTRA: list[JsonObject] = [
    {},
    {"usage": None},
    {"usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    {"content": "elsewhere"},
    {"service_tier": "flex"},
    {"error": None},
    {"error": {"message": "no"}},
    {"object": "chat.completion.chunk"},
    {"index": 1},
]
SCORES: JsonObject = {"content": [{"token": "a", "logprob": -0.5}]}
OF_THE_CHOICE: list[JsonObject] = [
    {},
    {"finish_reason": None},
    {"finish_reason": "stop"},
    {"logprobs": None},
    {"logprobs": SCORES},
    {"index": 1},
]


def said(kind: str, text: str, index: int, call_id: str | None, name: str | None) -> JsonObject:
    if kind != "call":
        return {kind: text}
    function: JsonObject = {"arguments": text}
    if name is not None:
        function["name"] = name
    call: JsonObject = {"index": index, "function": function}
    if call_id is not None:
        call["id"] = call_id
    return {"tool_calls": [call]}


def text_of(document: JsonValue, spaced: bool, ascii_only: bool) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    text = json.dumps(document, ensure_ascii=ascii_only, separators=separators)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Events that differ in their text, and some in what else hosts vary."""
    kind, index = draw(SAYS), draw(NUMBERS)
    call_id, name = draw(CALL_IDS), draw(NAMES)
    of_choice = draw(st.sampled_from(OF_THE_CHOICE))
    extra = draw(st.sampled_from(EXTRA))
    also = draw(st.sampled_from([{}, {}, {"role": "assistant"}, {"content": ""}, {"content": "x"}]))
    spaced, ascii_only, last = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    varying = draw(st.sampled_from(["", "", "id", "created", "fingerprint"]))
    events = []
    for number, text in enumerate(draw(st.lists(TEXTS, min_size=1, max_size=8))):
        delta = {**also, **said(kind, text, index, call_id, name)}
        head: JsonObject = {
            "id": f"c{number}" if varying == "id" else "c",
            "created": number if varying == "created" else 7,
            "system_fingerprint": f"f{number}" if varying == "fingerprint" else "f",
        }
        choice: JsonObject = {"index": 0, "delta": delta, **of_choice}
        body: JsonObject = {"choices": [choice], **extra}
        document = {**body, **head} if last else {**head, **body}
        events.append(b"data: " + text_of(document, spaced, ascii_only) + b"\n\n")
    return events


TWICE = b'data: {"choices":[{"index":0,"delta":{"content":"%b","content":"b"}}]}\n\n'
ODD = st.sampled_from(
    [
        b": comment\n\n",
        b"\n",
        b"data: not json\n\n",
        b"event: other\n",
        b"event: error\n",
        TWICE % b"a",
        TWICE % b"b",
        b'data: {"choices":[{"index":0,"delta":{"content":"a\\u0062"}}]}\r\n\r\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\uD83D\\uDE00"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a\tb"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}}}]}\n\n',
    ]
)
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    """An answer, in pieces that have nothing to do with its events."""
    events: list[bytes] = []
    for several in draw(st.lists(st.one_of(alike(), ODD.map(lambda it: [it])), max_size=8)):
        events += several
    stream = b"".join(events) + draw(st.sampled_from([FINISH, FINISH, b""]))
    if draw(st.booleans()):
        return [each for each in [*events, FINISH] if each]
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    ends = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    return [stream[start:end] for start, end in ends if start < end]


def answer(
    answering: Answering[ChatChunk] | Answering[ChatChunk | Run], said: list[bytes]
) -> bytes:
    data, accepted = b"", False
    for read in said:
        if accepted:
            data += answering.feed(read)
        elif answering.offer(read) is True:
            accepted = True
            data += answering.accepted()
    return data + (answering.end() if accepted else b"")


TOOLS = translated(
    {
        "input": "x",
        "tools": [{"type": "function", "name": "look"}, {"type": "custom", "name": "patch"}],
    }
).tools


def context(*, noisy: bool) -> AnswerContext:
    return replace(plain_context(), tools=TOOLS, noise=(lambda size: "x" * size) if noisy else None)


@settings(max_examples=300, deadline=None)
@given(reads(), st.booleans())
def test_the_short_way_and_the_long_way_say_the_same(said: list[bytes], noisy: bool) -> None:
    terms = Terms(streams=True)
    short = answer(ChatAnswering(Assembler(context(noisy=noisy)), terms), said)
    long = answer(Answering(AnswerReader(), Assembler(context(noisy=noisy)), terms), said)

    assert short == long


def event(choice: JsonObject) -> bytes:
    return b"data: " + text_of({"choices": [choice]}, False, False) + b"\n\n"


def calling(pieces: list[str], name: str) -> list[bytes]:
    deltas = [said("call", "", 0, "call_1", name)]
    deltas += [said("call", piece, 0, "", None) for piece in pieces]
    events = [event({"index": 0, "delta": delta}) for delta in deltas]
    return [events[0], b"".join(events[1:]), FINISH]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.lists(st.integers(0, 80), max_size=9), st.sampled_from(NAMED))
def test_arguments_cut_anywhere_are_the_same_both_ways(
    written: str, cuts: list[int], name: str
) -> None:
    arguments = json.dumps({"input": written}, ensure_ascii=False)
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(arguments)}), len(arguments)]
    pieces = [arguments[start:end] for start, end in pairwise([0, *ends])]
    terms, events = Terms(streams=True), calling(pieces, name)

    short = answer(ChatAnswering(Assembler(context(noisy=False)), terms), events)
    long = answer(Answering(AnswerReader(), Assembler(context(noisy=False)), terms), events)

    assert short == long


def test_scores_that_come_without_text_belong_to_the_text_after_them() -> None:
    plain = said("content", "a", 0, None, None)
    scored: JsonObject = {"index": 0, "delta": {"content": ""}, "logprobs": SCORES}
    plain_event = event({"index": 0, "delta": plain})
    events = [plain_event, plain_event, plain_event, event(scored), plain_event]

    short = answer(ChatAnswering(Assembler(plain_context()), Terms(streams=True)), events)

    deltas = [frame for frame in short.split(b"\n\n") if b"output_text.delta" in frame]
    assert [b'"logprob":-0.5' in delta for delta in deltas] == [False, False, False, True]
