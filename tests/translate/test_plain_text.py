import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_mitm.translate.answering import Answering, ChatAnswering, Terms
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.plain_text import PlainText
from qwen_mitm.wire.chat import AnswerReader, ChatChunk
from tests.translate.answers import plain_context

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["a", "=", "\n", '"', "\\", "\u2028", "\ud83d", "é", "👋", '","x":"', "{}", ""]
    ),
)


def event(text: str | None, *, ascii_only: bool = False, **extra: object) -> bytes:
    chunk = {"id": "c1", "choices": [{"index": 0, "delta": {"content": text}}], **extra}
    document = json.dumps(chunk, ensure_ascii=ascii_only, separators=(",", ":"))
    return b"data: " + document.encode("utf-8", "surrogatepass") + b"\n\n"


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

ODD_EVENTS = st.one_of(
    st.builds(event, TEXTS, id=st.sampled_from(["c1", "c2"])),
    st.builds(event, TEXTS, usage=st.just({"prompt_tokens": 1, "completion_tokens": 2})),
    st.builds(event, TEXTS, content=st.just("elsewhere")),
    st.builds(event, TEXTS, ascii_only=st.booleans()),
    st.just(b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'),
    st.just(b'data: {"choices":[{"index":0,"delta":{"refusal":"no"}}]}\n\n'),
    st.just(b'data: {"choices":[{"index":1,"delta":{"content":"other"}}]}\n\n'),
    st.just(
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":'
        b'{"name":"look","arguments":"{}"}}]}}]}\n\n'
    ),
    st.just(b": comment\n\n"),
    st.just(b"\n"),
    st.just(b"data: not json\n\n"),
    st.just(b"event: other\n"),
)


def answer(answering: Answering[ChatChunk], reads: list[bytes]) -> bytes:
    data, accepted = b"", False
    for read in reads:
        if accepted:
            data += answering.feed(read)
        elif answering.offer(read) is True:
            accepted = True
            data += answering.accepted()
    return data + (answering.end() if accepted else b"")


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(st.builds(event, TEXTS), ODD_EVENTS), max_size=25),
    st.lists(st.integers(0, 4000), max_size=4),
)
def test_the_short_way_and_the_long_way_say_the_same(events: list[bytes], cuts: list[int]) -> None:
    reads = [event("first words "), event("of it "), event("all"), *events, FINISH]
    for cut in cuts:
        place = cut % len(reads)
        middle = cut % (len(reads[place]) + 1)
        reads[place : place + 1] = [reads[place][:middle], reads[place][middle:]]
    reads = [read for read in reads if read]

    terms = Terms(streams=True)
    short = answer(ChatAnswering(Assembler(plain_context()), terms), reads)
    long = answer(Answering(AnswerReader(), Assembler(plain_context()), terms), reads)

    assert short == long


def learned() -> PlainText:
    plain = PlainText()
    data = event("words")
    plain.learn(data, AnswerReader().feed(data))
    return plain


@pytest.mark.parametrize("text", ["more", "é", "👋 \u2028", " ", "'", "[DONE]"])
def test_a_chunk_of_the_learned_shape_is_recognised(text: str) -> None:
    assert learned().text_of(event(text)) == text


@pytest.mark.parametrize(
    "data",
    [
        event(""),
        event(None),
        event('a "quote"'),
        event("a\nline"),
        event("back\\slash"),
        event("é", ascii_only=True),
        event("more", id="c2"),
        event("more") + event("and more"),
        event("more")[:-1],
        event("more")[1:],
        event("more").replace(b"more", b"\xff"),
        FINISH,
        b"",
    ],
)
def test_anything_else_takes_the_long_way(data: bytes) -> None:
    assert learned().text_of(data) is None


@pytest.mark.parametrize(
    "data",
    [
        event("words", usage={"prompt_tokens": 1, "completion_tokens": 1}),
        b'data: {"content":"words","choices":[{"index":0,"delta":{"content":"w\\u006frds"}}]}\n\n',
        b'data: {"choices":[{"index":1,"delta":{"content":"words"}}]}\n\n',
        event("words") + event("words"),
    ],
)
def test_a_shape_that_says_more_than_its_text_is_not_learned(data: bytes) -> None:
    plain = PlainText()
    plain.learn(data, AnswerReader().feed(data))
    assert plain.text_of(data) is None
