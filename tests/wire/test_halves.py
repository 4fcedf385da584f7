from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.wire.chat import AnswerReader, ChatChunk


def said(*deltas: str, key: str = "content") -> str:
    """What a reader makes of these texts, each the inside of a JSON string."""
    reader = AnswerReader()
    stream = "".join(f'data: {{"choices":[{{"delta":{{"{key}":"{it}"}}}}]}}\n\n' for it in deltas)
    parts = reader.feed(stream.encode()) + reader.end()
    assert reader.skipped == 0
    deltas_read = [
        part.choice.delta for part in parts if isinstance(part, ChatChunk) and part.choice
    ]
    return "".join((it.content if key == "content" else it.reasoning) or "" for it in deltas_read)


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["Hi \\ud83d", "\\ude00!"], "Hi 😀!"),
        (["\\uD83D", "\\uDE00"], "😀"),
        (["\\ud83d", "", "\\ude00"], "😀"),
        (["\\ud83d", "\\ude00\\ud83d", "\\ude01"], "😀😁"),
        (["\\ud83d\\ude00\\ud83d", "\\ude01 \\ud83d\\ude00"], "😀😁 😀"),
        (['\\"\\\\ \\ud83d', "\\ude00"], '"\\ 😀'),
        (["\\ud83d", "no"], "\ufffdno"),
        (["\\ud83d", "\\ud83d", "\\ude00"], "\ufffd😀"),
        (["a \\ud83d b", "\\ude00"], "a \ufffd b\ufffd"),
        (["\\\\ud83d", "\\\\ude00"], "\\ud83d\\ude00"),
        (["\\ude00", "a"], "\ufffda"),
        (["a\\ud83d"], "a"),
    ],
)
def test_a_pair_that_was_cut_between_two_deltas_is_one_character(
    deltas: list[str], text: str
) -> None:
    assert said(*deltas) == text
    assert said(*deltas, key="reasoning_content") == text


def test_a_half_waits_for_the_text_that_it_belongs_to() -> None:
    reader = AnswerReader()
    events = ['"content":"\\ud83d"', '"role":"assistant"', '"content": "\\ude00"']
    stream = "".join(f'data: {{"choices":[{{"delta":{{{it}}}}}]}}\n\n' for it in events)
    parts = reader.feed(stream.encode())
    read = [
        part.choice.delta.content for part in parts if isinstance(part, ChatChunk) and part.choice
    ]
    assert read == ["", None, "😀"]


@given(st.text(), st.lists(st.integers(0, 400)))
def test_escapes_may_be_cut_between_any_two(text: str, cuts: list[int]) -> None:
    units = text.encode("utf-16-be", "surrogatepass")
    escapes = [f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)]
    places = [0, *sorted(cuts), len(escapes)]
    deltas = ["".join(escapes[a:b]) for a, b in pairwise(places)]
    assert said(*deltas) == json.loads(f'"{"".join(escapes)}"')
