from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.wire.response_object import JsonObject
from tests.translate.answers import DONE, Answer, answer, chunk, event, fragment, usage

TRANSCRIPTS = Path(__file__).parents[1] / "fixtures" / "transcripts"
STREAMS = [path.read_bytes() for path in sorted(TRANSCRIPTS.glob("*/upstream.sse"))]

FINISH = [None, "stop", "tool_calls", "length", "content_filter", "function_call", "odd"]
ENDS = [b"", DONE, usage(), usage() + DONE]

words = st.text(max_size=6)
finishes = st.sampled_from(FINISH)


def marked(texts: list[str]) -> list[str]:
    """Texts none of which begins with another, so that no host could mean running totals."""
    return [f"<{number}>{it}" for number, it in enumerate(texts)]


@given(stream=st.sampled_from(STREAMS), data=st.data())
@settings(max_examples=200, deadline=None)
def test_events_do_not_depend_on_how_the_bytes_are_cut(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    borders = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(borders)]
    assert Answer(pieces).stream == Answer([stream]).stream


@pytest.mark.parametrize("stream", STREAMS)
def test_events_do_not_depend_on_the_bytes_coming_singly(stream: bytes) -> None:
    assert (
        Answer(stream[at : at + 1] for at in range(len(stream))).stream == Answer([stream]).stream
    )


@given(
    said=st.lists(st.tuples(st.sampled_from(["content", "reasoning_content", "refusal"]), words)),
    finish=finishes,
    end=st.sampled_from(ENDS),
)
@settings(max_examples=200, deadline=None)
def test_no_text_is_lost_or_reordered(
    said: list[tuple[str, str]], finish: str | None, end: bytes
) -> None:
    texts = marked([text for _, text in said])
    pieces = [chunk({kind: text}) for (kind, _), text in zip(said, texts, strict=True)]
    made = answer(*pieces, chunk(finish=finish), end)
    written = [
        part.get("text", part.get("refusal"))
        for item in made.output
        for part in item.get("content", [])
    ]
    assert "".join(written) == "".join(texts)


calls = st.lists(
    st.tuples(
        st.sampled_from(["f", "g"]),
        st.dictionaries(words, st.one_of(words, st.integers(), st.lists(words)), min_size=1),
    ),
    max_size=4,
)


@given(calls=calls, data=st.data())
@settings(max_examples=200, deadline=None)
def test_interleaved_calls_with_an_index_keep_their_arguments(
    calls: list[tuple[str, dict[str, JsonValue]]], data: st.DataObject
) -> None:
    restate = data.draw(st.booleans())
    queues: list[list[JsonObject]] = []
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cut = data.draw(st.integers(0, len(text)))
        first = fragment(text[:cut], index=number, id=f"call_{number}", name=name)
        again = (f"call_{number}", name) if restate else (None, None)
        rest = fragment(text[cut:], index=number, id=again[0], name=again[1])
        queues.append([rest, first])
    pieces = []
    while queues:
        queue = data.draw(st.sampled_from(queues))
        pieces.append(chunk({"tool_calls": [queue.pop()]}))
        if not queue:
            queues.remove(queue)
    made = answer(*pieces, chunk(finish="tool_calls"), DONE)
    expected = {(f"call_{n}", name, json.dumps(args)) for n, (name, args) in enumerate(calls)}
    assert set(made.calls) == expected
    assert len(made.calls) == len(calls)


@given(calls=calls, style=st.sampled_from(["index", "ids", "zero", "nothing", "message"]))
@settings(max_examples=200, deadline=None)
def test_whole_calls_survive_however_a_host_numbers_them(
    calls: list[tuple[str, dict[str, JsonValue]]], style: str
) -> None:
    # Two equal calls without any key are one call that comes twice.
    sent = [(name, json.dumps({**args, "n": n})) for n, (name, args) in enumerate(calls)]
    fragments: list[JsonValue] = []
    for number, (name, text) in enumerate(sent):
        index = {"index": number, "zero": 0}.get(style)
        id_ = None if style in ("nothing", "message") else f"call_{number}"
        fragments.append(fragment(text, index=index, id=id_, name=name))
    if style == "message":
        message: JsonObject = {"role": "assistant", "tool_calls": fragments}
        pieces = [event({"choices": [{"message": message, "finish_reason": "stop"}]})]
    else:
        pieces = [chunk({"tool_calls": [it]}) for it in fragments] + [chunk(finish="stop")]
    made = answer(*pieces, DONE)
    assert [(name, text) for _, name, text in made.calls] == sent


fragments = st.builds(
    fragment,
    st.one_of(st.none(), words, st.sampled_from(["{", "}", "{}", '{"a":1}', '"', "null"])),
    index=st.one_of(st.none(), st.integers(0, 2)),
    id=st.sampled_from([None, "", "x", "y"]),
    name=st.sampled_from([None, "", "f", "g"]),
)
deltas: st.SearchStrategy[JsonObject] = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": st.one_of(st.none(), words),
        "reasoning_content": words,
        "reasoning": words,
        "refusal": words,
        "tool_calls": st.lists(fragments, max_size=3),
    },
)
hostile = st.one_of(
    st.builds(chunk, deltas, st.one_of(finishes, st.just("error"))),
    st.builds(usage, st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([DONE, b": ping\n\n", b"data: {\n\n", event({"error": {"message": "No."}})]),
)


@given(pieces=st.lists(hostile, max_size=25))
@settings(max_examples=500, deadline=None)
def test_hostile_answers_become_valid_streams(pieces: list[bytes]) -> None:
    answer(*pieces)


@given(pieces=st.lists(st.builds(chunk, deltas), max_size=25), data=st.data())
@settings(max_examples=200, deadline=None)
def test_failure_at_any_moment_ends_a_valid_stream(
    pieces: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(pieces)))
    made = answer(*pieces[:at], event({"error": {"message": "No."}}), *pieces[at:])
    assert made.status == "failed"
