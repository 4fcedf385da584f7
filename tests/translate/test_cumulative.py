from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qwen_mitm.translate.cumulative import CumulativeDeltas, is_replay

SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody knows why it did."
TOKENS = (
    *("=", "==", "=" * 16, "-" * 20, "-", "*", "**", "#", "##"),
    *(" ", "  ", "    ", " " * 16, "\n", "\n\n", "\t", "\r\n"),
    *("1", "10", "100", "0", "0.", "1.", "12", "123"),
    *("a", "ab", "abc", "b", " a", " ab", " b", "ha", "haha", " the", " The", "The", "Title: a"),
    *(
        "def",
        "def ",
        " f(",
        "):",
        "return",
        "    return",
        "self",
        "self.",
        "()",
        "(",
        ")",
        "'",
        '"',
    ),
    *("|", "| ", " | ", "|---", "| --- |", "|\n", "```", "```python", "<", "</", "é", "你", "你好"),
    *("👋", "}", "{", "{\n", "};", "//", "/*", " x", " y", " =", " ==", "I", " am", "here"),
)
tokens = st.one_of(
    st.sampled_from(TOKENS),
    st.builds(lambda mark, count: mark * count, st.sampled_from("= -*#.\n"), st.integers(1, 80)),
    st.text(min_size=1, max_size=6),
    st.text("ab ", min_size=1, max_size=4),
)
streams = st.lists(tokens, max_size=30)


def undone(*deltas: str) -> str:
    cumulative = CumulativeDeltas()
    return "".join(map(cumulative.new_text, deltas)) + cumulative.rest()


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["Let", "Let me", "Let me see"], "Let me see"),
        (["I", "I am", "I am here", "I am here", "I am here."], "I am here."),
        (["Hel", "Hello", "Hello wor", "Hello wor", "Hello world"], "Hello world"),
        (["=", "==", "===", "=== Title", "=== Title of", "=== Title of it"], "=== Title of it"),
        (["你", "你好", "你好。我", "你好。我是"], "你好。我是"),
        ([SENTENCE, f"{SENTENCE} And more."], f"{SENTENCE} And more."),
        ([SENTENCE, SENTENCE], SENTENCE),
        ([SENTENCE, SENTENCE, f"{SENTENCE} A.", f"{SENTENCE} A. B"], f"{SENTENCE} A. B"),
    ],
)
def test_running_totals_become_deltas(deltas: list[str], text: str) -> None:
    assert undone(*deltas) == text


@pytest.mark.parametrize(
    "deltas",
    [
        ["ha", "ha"],
        ["ha", "haha", "hahahaha"],
        ["elephant ", "elephant elephant ", "elephant " * 3, "elephant " * 4, "elephant " * 5],
        ["=", "==", "===="],
        ["1", "10", "!"],
        ["1", "10"],
        ["1", "12", "123", "1234", "\n"],
        ["\n1", "\n12", "\n123", "\n1234", "\n12345", "."],
        [" h", " he", " hel", " hell", " hello"],
        ["a", "b", "a", "ab", "aba"],
        ["x" * 64, "x" * 64],
        ["-" * 80, "-" * 80, "\n"],
        ["=" * 16, "=" * 16 + "\n", "Title: a", " ", " b", "\n", "\n\n", "1", "10"],
        [" " * 16, " " * 16 + "foo", " bar"],
        ["A long first delta", "A long first delta, and more", " of it"],
        [SENTENCE, SENTENCE, " That was it twice."],
        [SENTENCE, SENTENCE * 2],
    ],
)
def test_legitimate_repetition_survives(deltas: list[str]) -> None:
    assert undone(*deltas) == "".join(deltas)


def test_ordinary_text_settles_with_its_second_delta() -> None:
    cumulative = CumulativeDeltas()
    assert [cumulative.new_text(it) for it in ("Hello", " there")] == ["Hello", " there"]
    assert cumulative.settled


def test_a_wrong_suspicion_ends_with_the_first_delta_that_is_new_text() -> None:
    cumulative = CumulativeDeltas()
    given_out = [cumulative.new_text(it) for it in ("=", "==", "=====\n", "Title")]
    assert given_out == ["=", "", "", "=======\nTitle"]
    assert cumulative.settled


def test_running_totals_that_break_off_become_plain_deltas() -> None:
    totals = [*accumulate(["Now", " I", " will", " look", " that", " up"])]
    plain = [" Then", " ", " ", "\n", "\n\n", "1", "10"]
    assert undone(*totals, *plain) == totals[-1] + "".join(plain)


def test_running_totals_may_start_again() -> None:
    totals = [*accumulate(["Now", " I", " will", " look", " that", " up"])]
    others = [*accumulate(["It", " is", " sunny", " there", ", they", " say"])]
    assert undone(*totals, *others) == totals[-1] + others[-1]


def test_running_totals_may_go_on_behind_a_tool_call() -> None:
    deltas = CumulativeDeltas()
    assert deltas.new_text("I look that up. ") + deltas.rest() == "I look that up. "
    totals = [*accumulate(["I look that up. ", "It", " is", " sunny", " there"])]
    assert "".join(map(deltas.new_text, totals[1:])) + deltas.rest() == "It is sunny there"


def test_a_text_that_nobody_can_judge_leaves_the_next_one_unjudged() -> None:
    deltas = CumulativeDeltas()
    assert deltas.new_text("1") + deltas.new_text("10") + deltas.rest() == "110"
    totals = [*accumulate(["It", " is", " sunny", " there", ", they", " say"])]
    assert "".join(map(deltas.new_text, totals)) + deltas.rest() == totals[-1]


@given(streams)
@settings(max_examples=500)
def test_no_token_of_an_ordinary_stream_is_lost(stream: list[str]) -> None:
    assert undone(*stream) == "".join(stream)


@given(streams)
@settings(max_examples=500)
def test_running_totals_of_any_tokens_end_as_the_last_one(stream: list[str]) -> None:
    stream += [" Now", " I", " look", " up", " what", " that", " means", "."]
    totals = [*accumulate(stream)]
    assert undone(*totals) == totals[-1]


@given(streams, streams)
@settings(max_examples=500)
def test_running_totals_that_become_deltas_lose_nothing(
    before: list[str], after: list[str]
) -> None:
    totals = [*accumulate([*before, " Now", " I", " look", " up", " what", " that", " means", "."])]
    assume(not "".join(after[:1]).startswith(totals[-1]))
    assert undone(*totals, *after) == totals[-1] + "".join(after)


@pytest.mark.parametrize("text", ["=" * 100, "| --- " * 20, "0123456789" * 9, SENTENCE[:63]])
def test_a_text_that_tells_little_is_no_replay(text: str) -> None:
    assert not is_replay(text)


def test_a_text_that_is_certain_needs_no_proof() -> None:
    deltas = CumulativeDeltas(certain=lambda text, _delta: text.startswith("{"))
    assert [deltas.new_text(it) for it in ('{"a', '{"a":', '{"a":1}')] == ['{"a', '":', "1}"]
