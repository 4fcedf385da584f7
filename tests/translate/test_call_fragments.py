from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.translate.call_fragments import CallFragments, JsonProgress
from qwen_mitm.wire.chat import ToolCallDelta
from tests.cases import cases
from tests.translate.sending import translated


def calls_of(
    *fragments: ToolCallDelta, offered: tuple[str, ...] = ()
) -> list[tuple[str | None, str | None, str]]:
    tools = [{"type": "function", "name": name} for name in offered]
    calls = CallFragments(translated({"input": "x", "tools": tools}).tools)
    for fragment in fragments:
        calls.call_for(fragment).take(fragment)
    for call in calls:
        call.rest()
    return [(call.upstream_id, call.name, call.arguments) for call in calls]


def part(
    arguments: str | None = None,
    index: int | None = None,
    id: str | None = None,  # noqa: A002 - the name of the field
    name: str | None = None,
) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=id, name=name, arguments=arguments)


def test_index_is_the_key() -> None:
    assert calls_of(
        part('{"a"', 7, "x", "f"), part('{"b"', 2, "y", "g"), part(":1}", 7), part(":2}", 2)
    ) == [("x", "f", '{"a":1}'), ("y", "g", '{"b":2}')]


def test_same_index_with_another_id_is_another_call() -> None:
    assert calls_of(
        part('{"a":', 0, "x", "f"), part("1}", 0), part('{"b":', 0, "y", "g"), part("2}", 0)
    ) == [("x", "f", '{"a":1}'), ("y", "g", '{"b":2}')]


def test_interleaved_calls_that_are_all_numbered_zero_are_told_apart_by_id() -> None:
    assert calls_of(
        part('{"a":', 0, "x", "f"),
        part('{"b":', 0, "y", "g"),
        part("1}", 0, "x"),
        part("2}", 0, "y"),
    ) == [("x", "f", '{"a":1}'), ("y", "g", '{"b":2}')]


def test_without_index_a_new_id_starts_a_call() -> None:
    assert calls_of(
        part("{", id="x", name="f"), part("}"), part("{", id="y", name="f"), part("}")
    ) == [("x", "f", "{}"), ("y", "f", "{}")]


def test_without_index_an_id_may_come_after_the_name() -> None:
    assert calls_of(part("{", name="f"), part("}", id="x")) == [("x", "f", "{}")]


def test_without_index_and_id_another_name_starts_a_call() -> None:
    assert calls_of(part("", name="f"), part("{}", name="g"), part("{}", name="g")) == [
        (None, "f", ""),
        (None, "g", "{}"),
    ]


def test_without_index_and_id_other_arguments_of_a_finished_call_start_another() -> None:
    assert calls_of(part('{"a":1}', name="f"), part('{"a":2}', name="f")) == [
        (None, "f", '{"a":1}'),
        (None, "f", '{"a":2}'),
    ]


def test_restated_name_is_not_appended() -> None:
    assert calls_of(part("{", 0, "x", "f"), part("}", 0, "x", "f")) == [("x", "f", "{}")]


@pytest.mark.parametrize("index", [None, 0, 5])
def test_replay_of_a_finished_call_is_left_out(index: int | None) -> None:
    assert calls_of(
        part('{"a":', 0, "x", "f"),
        part("1}", 0),
        part('{"a":', index, "x", "f"),
        part("1}", index, "x", "f"),
    ) == [("x", "f", '{"a":1}')]


def test_replay_without_its_id_is_left_out() -> None:
    assert calls_of(part('{"a":1}', 0, "x", "f"), part('{"a":1}', 0)) == [("x", "f", '{"a":1}')]


def test_two_calls_with_one_id_are_both_kept() -> None:
    assert calls_of(part('{"a":1}', 0, "x", "f"), part('{"a":2}', 1, "x", "f")) == [
        ("x", "f", '{"a":1}'),
        ("x", "f", '{"a":2}'),
    ]


def test_running_totals_of_arguments_become_fragments() -> None:
    assert calls_of(part('{"a', 0, "x", "f"), part('{"a":1', 0), part('{"a":1}', 0)) == [
        ("x", "f", '{"a":1}')
    ]


def test_object_inside_an_object_is_no_running_total() -> None:
    assert calls_of(part('{"a":', 0, "x", "f"), part('{"a":', 0), part("1}}", 0)) == [
        ("x", "f", '{"a":{"a":1}}')
    ]


def test_fragments_of_one_character_give_the_whole() -> None:
    arguments = json.dumps({"code": '{"{\\"}[', "list": [[1], {"a": "\\"}]})
    fragments = [part("", 0, "x", "f"), *(part(it, 0) for it in arguments)]
    assert calls_of(*fragments) == [("x", "f", arguments)]


@pytest.mark.parametrize("cut", range(1, 26))
def test_json_is_whole_at_its_last_bracket_and_cut_short_before(cut: int) -> None:
    text = '{"a\\"}":["]",{"b":"\\\\"}]}'
    progress = JsonProgress()
    for character in text[:cut]:
        progress.feed(character)
    assert (progress.is_whole, progress.is_cut_short) == (cut == len(text), cut < len(text))


@pytest.mark.parametrize("text", ["", "  ", "null", "12"])
def test_text_without_brackets_is_neither_whole_nor_cut(text: str) -> None:
    progress = JsonProgress()
    progress.feed(text)
    assert (progress.is_whole, progress.is_cut_short) == (False, False)


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        (["get_", "weather"], "get_weather"),
        (["get_", "wea", "ther"], "get_weather"),
        (["get_", "get_weather"], "get_weather"),
        (["get_", "get_", "weather"], "get_weather"),
        (["get_weather", "get_weather"], "get_weather"),
        (["get_weather", "_now"], "get_weather"),
        (["get_time", "zone"], "get_time"),
        (["get_", "news"], "get_"),
        (["get_"], "get_"),
        (["invented", "get_weather"], "invented"),
    ],
)
def test_a_name_grows_only_into_one_that_was_offered(pieces: list[str], name: str) -> None:
    parts = [part(index=0, name=piece) for piece in pieces]
    offered = ("get_weather", "get_time", "f")
    assert calls_of(*parts, part("{}", 0), offered=offered) == [(None, name, "{}")]
    assert calls_of(*parts, offered=offered) == [(None, name, "")]


def test_a_beginning_of_a_name_is_the_name_when_another_call_begins() -> None:
    offered = ("get_weather", "f")
    assert calls_of(part(id="x", name="get_"), part(id="y", name="f"), offered=offered) == [
        ("x", "get_", ""),
        ("y", "f", ""),
    ]
    assert calls_of(part(name="get_"), part("{}", name="f"), offered=offered) == [
        (None, "get_", ""),
        (None, "f", "{}"),
    ]


@pytest.mark.parametrize(
    "second",
    [
        [part("", name="f"), part('{"a":2}')],
        [part(name="f"), part('{"a"'), part(":2}")],
        [part('{"a":', name="f"), part("2}")],
        [part("", name="f"), part(" "), part('{"a":'), part("2}")],
    ],
)
def test_without_a_key_other_arguments_after_the_same_name_are_another_call(
    second: list[ToolCallDelta],
) -> None:
    first, *others = calls_of(part('{"a":', name="f"), part("1}"), *second)

    assert first == (None, "f", '{"a":1}')
    assert [(name, json.loads(arguments)) for _, name, arguments in others] == [("f", {"a": 2})]


def test_without_a_key_a_whole_call_that_comes_again_in_pieces_is_one_call() -> None:
    again = [part("", name="f"), part('{"a"'), part(":1}"), part('{"a":1}')]

    assert calls_of(part('{"a":1}', name="f"), *again) == [(None, "f", '{"a":1}')]


@pytest.mark.parametrize("name", [None, "f"])
@pytest.mark.parametrize("cut", range(9))
def test_without_a_key_a_second_call_is_whole_wherever_it_is_cut(
    cut: int, name: str | None
) -> None:
    second = '{"a": 2}'
    pieces = [part(second[:cut], name="f"), part(second[cut:], name=name)]

    assert calls_of(part('{"a": 1}', name="f"), *pieces) == [
        (None, "f", '{"a": 1}'),
        (None, "f", second),
    ]


def test_without_a_key_a_call_that_came_twice_is_no_part_of_the_next() -> None:
    first = [part('{"a":1}', name="f"), part('{"a":1}', name="f")]

    assert calls_of(*first, part("", name="f"), part('{"b":2}')) == [
        (None, "f", '{"a":1}'),
        (None, "f", '{"b":2}'),
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        ['{"', '{": 1}'],
        ['{"', '{"', ": 1}"],
        ['{"', "{", '": 1}'],
        ['["', '[", ', "1]"],
    ],
)
def test_a_key_that_looks_like_the_beginning_is_no_running_total(pieces: list[str]) -> None:
    assert calls_of(*(part(it, 0, "x", "f") for it in pieces)) == [("x", "f", "".join(pieces))]


@cases(500)
@given(
    texts=st.lists(
        st.dictionaries(st.text('{}[]":,\\ a', max_size=3), st.text('{}":, ', max_size=3)),
        min_size=1,
        max_size=3,
    ),
    places=st.lists(st.lists(st.integers(0, 60), max_size=4), min_size=3, max_size=3),
    named=st.booleans(),
    key=st.sampled_from(["index", "id", "zero", "nothing"]),
)
def test_calls_come_back_whole_whatever_their_keys_and_cuts(
    texts: list[dict[str, str]], places: list[list[int]], named: bool, key: str
) -> None:
    # Two equal calls without any key are one call that comes twice.
    wanted = [json.dumps({**text, "n": number}) for number, text in enumerate(texts)]
    fragments = []
    for number, text in enumerate(wanted):
        index = {"index": number, "zero": 0}.get(key)
        id_ = None if key == "nothing" else f"c{number}"
        cuts = [0, *sorted(place % (len(text) + 1) for place in places[number]), len(text)]
        for start, end in pairwise(cuts):
            first = start == 0 and end == cuts[1]
            again = named or first
            name = "f" if again else None
            fragments.append(part(text[start:end], index, id_ if again else None, name))

    assert [arguments for _, _, arguments in calls_of(*fragments)] == wanted
