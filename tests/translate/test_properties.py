from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.wire.response_object import JsonObject
from tests.cases import cases
from tests.translate.answers import DONE, Answer, answer, chunk, event, fragment, usage
from tests.translate.sending import translated
from tests.translate.test_freeform import ANY_TEXT, characters
from tests.translate.test_transcripts import CASES, TRANSCRIPTS, context_of

TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "function", "name": "g"},
    {"type": "custom", "name": "c"},
    {"type": "namespace", "name": "n", "tools": [{"type": "custom", "name": "c"}]},
    {"type": "namespace", "name": "m.x", "tools": [{"type": "function", "name": "f"}]},
    {"type": "tool_search", "execution": "client"},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
]
TABLE = translated({"input": "x", "tools": TOOLS}).tools
NAMES = [made.name for made in TABLE.definitions]

FINISH = [None, "stop", "tool_calls", "length", "content_filter", "function_call", "odd"]
ENDS = [b"", DONE, usage(), usage() + DONE]

words = st.text(max_size=6)
finishes = st.sampled_from(FINISH)


def marked(texts: list[str]) -> list[str]:
    """Texts none of which begins with another, so that no host could mean running totals."""
    return [f"<{number}>{it}" for number, it in enumerate(texts)]


def transcript(case: str) -> bytes:
    return (TRANSCRIPTS / case / "upstream.sse").read_bytes()


def cut_answer(case: str, cuts: list[int]) -> bytes:
    stream = transcript(case)
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    return Answer(pieces, context_of(case)).stream


@cases(200)
@given(case=st.sampled_from(CASES), data=st.data())
def test_events_do_not_depend_on_how_the_bytes_are_cut(case: str, data: st.DataObject) -> None:
    places = st.integers(0, len(transcript(case)))
    cuts = sorted(data.draw(st.lists(places, max_size=12)))
    assert cut_answer(case, cuts) == cut_answer(case, [])


@pytest.mark.parametrize("case", CASES)
def test_events_do_not_depend_on_the_bytes_coming_singly(case: str) -> None:
    assert cut_answer(case, [*range(1, len(transcript(case)))]) == cut_answer(case, [])


@cases(200)
@given(
    said=st.lists(st.tuples(st.sampled_from(["content", "reasoning_content", "refusal"]), words)),
    finish=finishes,
    end=st.sampled_from(ENDS),
)
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


@cases(200)
@given(calls=calls, data=st.data())
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


@cases(200)
@given(calls=calls, style=st.sampled_from(["index", "ids", "zero", "nothing", "message"]))
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


@cases(200)
@given(
    calls=st.lists(st.tuples(st.sampled_from(["f", "c", "n__c", "m_x__f"]), ANY_TEXT), max_size=4),
    data=st.data(),
)
def test_interleaved_calls_of_every_named_kind_come_back_as_they_were_declared(
    calls: list[tuple[str, str]], data: st.DataObject
) -> None:
    queues: list[list[JsonObject]] = []
    for number, (name, text) in enumerate(calls):
        arguments = json.dumps({"input": text})
        cuts = sorted(data.draw(st.lists(st.integers(0, len(arguments)), max_size=5)))
        pieces = [arguments[a:b] for a, b in pairwise([0, *cuts, len(arguments)])]
        first = fragment(pieces[0], index=number, id=f"call_{number}", name=name)
        queues.append([first, *(fragment(piece, index=number) for piece in pieces[1:])])
    sent = []
    while queues:
        queue = data.draw(st.sampled_from(queues))
        sent.append(chunk({"tool_calls": [queue.pop(0)]}))
        if not queue:
            queues.remove(queue)
    made = answer(*sent, chunk(finish="tool_calls"), DONE, tools=TABLE)

    assert len(made.output) == len(calls)
    for item in made.output:
        name, text = calls[int(item["call_id"].removeprefix("call_"))]
        route = TABLE.route(name)
        assert (item.get("namespace"), item["name"]) == (route.namespace, route.name)
        if route.kind == "custom":
            assert (item["type"], item["input"]) == ("custom_tool_call", characters(text))
        else:
            assert item["arguments"] == json.dumps({"input": text})


def actions(item: dict[str, Any]) -> Any:
    """What a call of a built-in tool is about, in the form of the function's arguments."""
    match item["type"]:
        case "tool_search_call":
            return item["arguments"]
        case "apply_patch_call":
            return item["operation"]
        case _:
            action = item["action"]
            return {key: value for key, value in action.items() if key not in ("type", "env")}


line = st.text(max_size=5)
BUILT_IN: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "tool_search": st.dictionaries(words, words | st.integers(), min_size=1),
    "local_shell": st.fixed_dictionaries(
        {"command": st.lists(line)}, optional={"timeout_ms": st.integers()}
    ),
    "shell": st.fixed_dictionaries(
        {"commands": st.lists(line)}, optional={"timeout_ms": st.integers()}
    ),
    "apply_patch": st.fixed_dictionaries(
        {"type": st.sampled_from(["create_file", "update_file"]), "path": line, "diff": line}
    ),
}


@cases(200)
@given(
    calls=st.lists(
        st.one_of(*(st.tuples(st.just(name), meant) for name, meant in BUILT_IN.items())),
        max_size=4,
    ),
    data=st.data(),
)
def test_calls_of_built_in_tools_keep_their_order_and_their_meaning(
    calls: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    heads, tails = [], []
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cut = data.draw(st.integers(0, len(text)))
        head = fragment(text[:cut], index=number, id=f"call_{number}", name=name)
        heads.append(chunk({"tool_calls": [head]}))
        tails.append(chunk({"tool_calls": [fragment(text[cut:], index=number)]}))
    rest = data.draw(st.permutations(tails))
    made = answer(*heads, *rest, chunk(finish="tool_calls"), DONE, tools=TABLE)

    assert [(item["type"], actions(item)) for item in made.output] == [
        (f"{name}_call", arguments) for name, arguments in calls
    ]


@cases(200)
@given(texts=st.lists(st.text(), min_size=1), finish=finishes)
def test_a_freeform_call_that_is_no_json_is_its_own_input(
    texts: list[str], finish: str | None
) -> None:
    pieces = marked(texts)
    fed = [chunk({"tool_calls": [fragment(piece, index=0)]}) for piece in pieces]
    head = chunk({"tool_calls": [fragment(index=0, id="call_a", name="c")]})
    made = answer(head, *fed, chunk(finish=finish), DONE, tools=TABLE)

    assert [item["input"] for item in made.output] == ["".join(pieces)]


fragments = st.builds(
    fragment,
    st.one_of(st.none(), words, st.sampled_from(["{", "}", "{}", '{"a":1}', '"', "null"])),
    index=st.one_of(st.none(), st.integers(0, 2)),
    id=st.sampled_from([None, "", "x", "y"]),
    name=st.sampled_from([None, "", "f", "g", *NAMES]),
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


@cases(500)
@given(pieces=st.lists(hostile, max_size=25))
def test_hostile_answers_become_valid_streams(pieces: list[bytes]) -> None:
    answer(*pieces, tools=TABLE)


@cases(200)
@given(pieces=st.lists(st.builds(chunk, deltas), max_size=25), data=st.data())
def test_failure_at_any_moment_ends_a_valid_stream(
    pieces: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(pieces)))
    broken = event({"error": {"message": "No."}})
    made = answer(*pieces[:at], broken, *pieces[at:], tools=TABLE)
    assert made.status == "failed"


@cases(200)
@given(pieces=st.lists(hostile, max_size=25))
def test_obfuscation_adds_noise_to_deltas_and_changes_nothing_else(pieces: list[bytes]) -> None:
    made = answer(*pieces, tools=TABLE, noise="x".__mul__)

    for delta in [it for it in made.events if it["type"].endswith(".delta")]:
        del delta["obfuscation"]
    assert made.events == answer(*pieces, tools=TABLE).events
