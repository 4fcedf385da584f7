from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.leaks import Leaks, leaks_of
from qwen_mitm.wire.chat import AnswerPart, AnswerReader, ChatChunk
from qwen_mitm.wire.chat_request import ChatRequest, FunctionDefinition
from qwen_mitm.wire.response_object import JsonObject
from tests.event_checker import Event, check_events, events_of
from tests.translate.answers import (
    DONE,
    call,
    chunk,
    event,
    plain_context,
    text,
    thought,
    usage,
)

SCHEMA: JsonObject = {"type": "object", "properties": {"n": {"type": "integer"}}}
LEAKED = "<tool_call>\n<function=roll><parameter=n>6</parameter></function>\n</tool_call>"
ROLL = ("function_call", "roll", '{"n":6}')


def mend(*pieces: bytes) -> list[AnswerPart]:
    reader = AnswerReader()
    leaks = Leaks(think_tags=True, offered={"roll": SCHEMA})
    parts = [part for piece in pieces for part in leaks.feed(reader.feed(piece))]
    return parts + leaks.feed(reader.end()) + leaks.end()


def answered(*pieces: bytes) -> Event:
    """The response to these pieces, whose events keep all rules."""
    assembler = Assembler(plain_context())
    stream = assembler.start() + assembler.feed(mend(*pieces)) + assembler.end()
    events: list[Event] = events_of(stream)
    check_events(events)
    response: Event = events[-1]["response"]
    return response


def said(*pieces: bytes) -> list[tuple[str, ...]]:
    items: list[tuple[str, ...]] = []
    for item in answered(*pieces)["output"]:
        if item["type"] == "function_call":
            items.append((item["type"], item["name"], item["arguments"]))
        else:
            items.append((item["type"], "".join(part["text"] for part in item["content"])))
    return items


def test_a_thought_between_tags_is_reasoning() -> None:
    pieces = [text(delta) for delta in ("<thi", "nk>\nhm", ".\n</thin", "k>\n\n", "Yes")]

    assert said(*pieces, chunk(finish="stop"), DONE) == [("reasoning", "hm.\n"), ("message", "Yes")]


def test_a_tag_after_reasoning_content_is_left_out() -> None:
    output = said(thought("hm"), text("\n</think>\n\nYes", "stop"), DONE)

    assert output == [("reasoning", "hm"), ("message", "Yes")]


def test_a_call_in_the_text_is_a_call() -> None:
    output = said(text("Rolling.\n"), *map(text, LEAKED), chunk(finish="stop"), usage(), DONE)

    assert output == [("message", "Rolling.\n"), ROLL]


def test_equal_calls_in_the_text_are_as_many_calls() -> None:
    response = answered(text(LEAKED + "\n" + LEAKED, "stop"), DONE)

    assert len({item["call_id"] for item in response["output"]}) == 2
    assert response["status"] == "completed"


def test_a_thought_and_a_call_in_one_text_are_told_apart() -> None:
    assert said(text(f"<think>hm</think>\n\n{LEAKED}", "stop"), DONE) == [("reasoning", "hm"), ROLL]


def test_a_whole_message_is_mended_too() -> None:
    message: JsonObject = {"role": "assistant", "content": f"<think>hm</think>{LEAKED}"}
    whole = event({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    assert said(whole) == [("reasoning", "hm"), ROLL]


def test_real_calls_stay_and_text_before_them_comes_first() -> None:
    real = call('{"n":1}', index=0, id="call_a", name="roll")

    assert said(text("1 <"), real, chunk(finish="tool_calls"), DONE) == [
        ("message", "1 <"),
        ("function_call", "roll", '{"n":1}'),
    ]


@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
def test_a_call_that_a_server_lost_in_the_thought_is_made(finish: str) -> None:
    output = said(thought("I roll. "), thought(LEAKED), text("\n\n"), chunk(finish=finish), DONE)

    assert output[0] == ("reasoning", f"I roll. {LEAKED}")
    assert output[-1] == ROLL


def test_a_call_in_a_thought_between_tags_is_made() -> None:
    assert said(text(f"<think>I roll. {LEAKED}", "stop"), DONE)[-1] == ROLL


@pytest.mark.parametrize(
    ("rest", "calls"),
    [
        ([text("Shall I?"), chunk(finish="stop")], []),
        ([call('{"n":2}', index=0, name="roll"), chunk(finish="tool_calls")], ['{"n":2}']),
        ([text(LEAKED), chunk(finish="stop")], ['{"n":6}']),
        ([chunk(finish="length")], []),
        ([], []),
    ],
)
def test_a_call_that_is_only_drafted_in_the_thought_is_not_made(
    rest: list[bytes], calls: list[str]
) -> None:
    output = said(thought(LEAKED), *rest, DONE)

    assert [item[-1] for item in output if item[0] == "function_call"] == calls


@pytest.mark.parametrize("end", [[], [DONE], [chunk(finish="length"), DONE]])
def test_what_is_held_back_comes_before_the_end(end: list[bytes]) -> None:
    held = '<tool_call>{"name":"roll","arguments":{"n"'

    assert said(text(held), *end) == [("message", held)]


def test_a_failure_comes_after_the_text_that_was_held_back() -> None:
    parts = mend(text("1 <"), event({"error": {"message": "out of memory"}}))

    assert [type(part).__name__ for part in parts][-1] == "Failure"
    assert "".join(content(part) for part in parts) == "1 <"


def content(part: AnswerPart) -> str:
    choice = part.choice if isinstance(part, ChatChunk) else None
    return (choice.delta.content or "") if choice else ""


def test_scored_text_and_the_words_of_an_error_are_not_split() -> None:
    logprobs: JsonObject = {"content": [{"token": "<think>", "logprob": -0.1}]}
    delta: JsonObject = {"content": "<think>"}
    scored = event({"choices": [{"index": 0, "delta": delta, "logprobs": logprobs}]})
    error = text("<think> is too long", "error_finish")

    assert mend(scored, error) == AnswerReader().feed(scored + error)


@given(deltas=st.lists(st.text().filter(lambda text: "<" not in text and not text[:1].isspace())))
def test_chunks_that_leak_nothing_are_the_same_objects_at_once(deltas: list[str]) -> None:
    parts = AnswerReader().feed(b"".join([thought("hm"), *map(text, deltas), usage(), DONE]))
    leaks = Leaks(think_tags=True, offered={"roll": SCHEMA})

    for part in parts:
        mended = leaks.feed([part])
        assert len(mended) == 1
        assert mended[0] is part


@given(
    words=st.lists(st.sampled_from(["hm ", "1 < 2", "<think>", "</think>", "\n", LEAKED, "<b>"])),
    cuts=st.lists(st.integers(0, 500), max_size=8),
)
def test_output_does_not_depend_on_the_chunks(words: list[str], cuts: list[int]) -> None:
    whole = "".join(words)
    places = sorted({cut % (len(whole) + 1) for cut in cuts})
    bounds = zip([0, *places], [*places, len(whole)], strict=True)
    pieces = [text(whole[start:end]) for start, end in bounds]
    end = [chunk(finish="stop"), DONE]

    assert joined(mend(*pieces, *end)) == joined(mend(text(whole), *end))


def joined(parts: list[AnswerPart]) -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for part in parts:
        choice = part.choice if isinstance(part, ChatChunk) else None
        if choice is None:
            continue
        delta = choice.delta
        made = [("call", str(made.arguments)) for made in delta.tool_calls]
        texts = [("thought", delta.reasoning or ""), ("text", delta.content or ""), *made]
        for kind, words in texts:
            if words and kind != "call" and flat and flat[-1][0] == kind:
                flat[-1] = (kind, flat[-1][1] + words)
            elif words:
                flat.append((kind, words))
    return flat


def request(**changes: object) -> ChatRequest:
    tool = FunctionDefinition(name="roll", description=None, parameters=SCHEMA)
    fields = {"model": "m", "system": None, "messages": (), "tools": (tool,), **changes}
    return ChatRequest(**fields)  # type: ignore[arg-type]


def test_hosts_that_leak_nothing_are_left_alone() -> None:
    leaky = {name for name, profile in PROFILES.items() if leaks_of(profile, request())}
    without_tools = {
        name for name, profile in PROFILES.items() if leaks_of(profile, request(tools=()))
    }

    assert leaky == {"vllm", "sglang", "ollama", "llama.cpp"}
    assert without_tools == {"vllm", "sglang", "llama.cpp"}


def test_no_call_is_made_where_the_client_wants_none() -> None:
    leaks = leaks_of(PROFILES["vllm"], request(tool_choice="none"))

    assert leaks is not None
    parts = leaks.feed(AnswerReader().feed(text(LEAKED))) + leaks.end()
    assert json.dumps([content(part) for part in parts]) == json.dumps([LEAKED])
