import json
from collections.abc import Callable, Iterable

import pytest
from pydantic import JsonValue

from qwen_mitm.wire.alike import QuickReader, Run
from qwen_mitm.wire.chat import AnswerReader, ChatChunk
from qwen_mitm.wire.response_object import JsonObject


def event(delta: JsonObject, ascii_only: bool = False, /, **extra: JsonValue) -> bytes:
    choice: JsonObject = {"index": 0, "delta": delta}
    chunk: JsonObject = {"id": "c1", "choices": [choice], **extra}
    document = json.dumps(chunk, ensure_ascii=ascii_only, separators=(",", ":"))
    return b"data: " + document.encode("utf-8", "surrogatepass") + b"\n\n"


def text(content: str | None, *, ascii_only: bool = False, **extra: JsonValue) -> bytes:
    return event({"content": content}, ascii_only, **extra)


def fragment(arguments: str, index: int = 0) -> bytes:
    return event({"tool_calls": [{"index": index, "id": "", "function": {"arguments": arguments}}]})


def thought(words: str) -> bytes:
    return event({"content": None, "reasoning_content": words})


def runs(*reads: bytes) -> list[tuple[str, list[str]]]:
    """What was recognised of these reads."""
    reader = QuickReader()
    parts = [part for read in reads for part in reader.feed(read)]
    return [(part.kind, part.texts) for part in parts if isinstance(part, Run)]


OPENING = event({"role": "assistant", "content": ""})


@pytest.mark.parametrize(
    "content",
    ["more", "é", "👋 \u2028", " ", "'", "[DONE]", 'a "quote"', "a\nline", "\x00\\", "\x7f"],
)
def test_a_chunk_of_the_learned_shape_is_recognised(content: str) -> None:
    assert runs(OPENING, text("words"), text(content)) == [("text", [content])]


@pytest.mark.parametrize("content", ["é", "你好", "👋", "\x1b\u2028", "\x00"])
def test_a_chunk_with_escapes_is_recognised(content: str) -> None:
    chunk = text(content, ascii_only=True)
    assert runs(OPENING, text("words"), chunk) == [("text", [content])]


@pytest.mark.parametrize(
    ("kind", "make"), [("text", text), ("thought", thought), ("arguments", fragment)]
)
def test_all_chunks_of_one_read_are_one_run(kind: str, make: Callable[[str], bytes]) -> None:
    chunks = [make(word) for word in ("a", '{"x": "', "c\n")]
    assert runs(OPENING, make("words"), b"".join(chunks)) == [(kind, ["a", '{"x": "', "c\n"])]


def test_what_is_odd_within_a_read_parts_two_runs() -> None:
    odd = text("x", system_fingerprint="f")
    read = text("a") + odd + text("b") + text("c")
    reader = QuickReader()
    reader.feed(OPENING + text("words"))

    parts = reader.feed(read)

    assert [part.texts if isinstance(part, Run) else type(part) for part in parts] == [
        ["a"],
        ChatChunk,
        ["b", "c"],
    ]


def test_an_event_that_is_cut_is_parsed_and_those_around_it_are_not() -> None:
    stream = b"".join(text(word) for word in "abcd")
    cut = len(text("a")) + 20
    assert runs(OPENING, text("x"), stream[:cut], stream[cut:]) == [
        ("text", ["a"]),
        ("text", ["c", "d"]),
    ]


def test_calls_side_by_side_have_a_shape_each() -> None:
    side_by_side = [fragment(word, index) for word in ("a", "b") for index in (0, 1)]
    assert runs(OPENING, fragment("x", 0), fragment("y", 1), *side_by_side) == [
        ("arguments", ["a"]),
        ("arguments", ["a"]),
        ("arguments", ["b"]),
        ("arguments", ["b"]),
    ]


@pytest.mark.parametrize(
    "varying",
    [
        [{"id": f"c{number}"} for number in range(4)],
        [{"created": 1_760_000_000 + number} for number in range(4)],
        [{"obfuscation": "x" * number} for number in range(4)],
        [{"id": f"c{number}", "created": number} for number in range(4)],
    ],
)
def test_ids_and_times_may_change_with_every_chunk(varying: list[JsonObject]) -> None:
    chunks = [
        event({"content": f"word {number}"}, **fields) for number, fields in enumerate(varying)
    ]
    assert runs(OPENING, *chunks) == [("text", ["word 2"]), ("text", ["word 3"])]


def test_the_id_of_a_call_may_not_change() -> None:
    def chunk(call_id: str) -> bytes:
        call: JsonValue = {"index": 0, "id": call_id, "function": {"arguments": "x"}}
        return event({"tool_calls": [call]})

    assert runs(OPENING, *(chunk(f"call_{number}") for number in range(6))) == []


@pytest.mark.parametrize(
    "other",
    [
        text(""),
        text(None),
        text("\ud83d", ascii_only=True),
        text("\ud83d"),
        text("more", system_fingerprint="f"),
        text("more")[:-1],
        text("more")[1:],
        text("more").replace(b"more", b"\xff"),
        text("more").replace(b"more", b"a\tb"),
        text("more").replace(b"more", b"\\x"),
        text("more").replace(b"more", b"\\u12"),
        text("more").replace(b"\n\n", b"\r\n\r\n"),
        b"data: [DONE]\n\n",
        b"",
    ],
)
def test_anything_else_is_parsed(other: bytes) -> None:
    assert runs(OPENING, text("words"), other) == []


@pytest.mark.parametrize(
    "data",
    [
        text("words", usage={"prompt_tokens": 1, "completion_tokens": 1}),
        b'data: {"choices":[{"index":1,"delta":{"content":"words"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"words"},"finish_reason":"stop"}]}\n\n',
        b'event: message\ndata: {"choices":[{"index":0,"delta":{"content":"words"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"words","refusal":"no"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"words","reasoning":"hm"}}]}\n\n',
    ],
)
def test_a_shape_that_says_more_than_its_text_is_not_learned(data: bytes) -> None:
    assert runs(OPENING, data, data, data) == []


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"content":"no","choices":[{"index":0,"delta":{"content":"w\\u006frds"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"no","content":"words"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"x\\"content":"no","content":"words"}}]}\n\n',
    ],
)
def test_of_several_values_the_text_is_the_one_that_parsing_finds(data: bytes) -> None:
    assert runs(OPENING, data, data) == [("text", ["words"])]


def test_a_stream_whose_shape_never_comes_again_is_parsed() -> None:
    chunks = [text("x", system_fingerprint=str(number)) for number in range(40)]
    reader = QuickReader()

    parts = [part for chunk in chunks for part in reader.feed(chunk)]

    assert parts == said_by(chunks)


def test_nothing_is_recognised_after_the_end_of_the_answer() -> None:
    assert runs(OPENING, text("words"), b"data: [DONE]\n\n", text("more")) == []


def said_by(reads: Iterable[bytes]) -> list[object]:
    reader = AnswerReader()
    return [part for read in reads for part in reader.feed(read)]
