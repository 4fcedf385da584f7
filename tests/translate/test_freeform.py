from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen_mitm.translate.freeform import FreeformInput, unwrapped

SURROGATES = st.integers(0xD800, 0xDFFF).map(chr)
ANY_TEXT = st.lists(st.one_of(st.text(), SURROGATES, st.sampled_from('"\\{},: \n'))).map("".join)
SPACES = st.text(alphabet=" \t\r\n", max_size=3)


def characters(text: str) -> str:
    """Half of a surrogate pair is no character; JSON's decoder passes it on."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return re.sub("[\ud800-\udfff]", "\ufffd", joined)


def whole(pieces: list[str]) -> str:
    unwrapping = FreeformInput()
    return "".join([*map(unwrapping.feed, pieces), unwrapping.rest()])


def cut(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


@given(text=ANY_TEXT, ascii_only=st.booleans(), spaces=st.tuples(*[SPACES] * 5), data=st.data())
@settings(max_examples=400, deadline=None)
def test_unwrapping_is_json_decoding_however_it_is_cut(
    text: str, ascii_only: bool, spaces: tuple[str, ...], data: st.DataObject
) -> None:
    string = json.dumps(text, ensure_ascii=ascii_only)
    if not ascii_only:
        string = characters(string)
    a, b, c, d, e = spaces
    wrapped = f'{a}{{{b}"input"{c}:{d}{string}{e}}}'

    expected = characters(json.loads(wrapped)["input"])
    assert whole(cut(wrapped, data)) == expected
    assert whole(list(wrapped)) == expected


@given(text=ANY_TEXT, data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_bare_json_string_or_another_key_counts_too(text: str, data: st.DataObject) -> None:
    expected = characters(json.loads(json.dumps(text)))

    for arguments in (text, {"patch": text}, {"n": 1, "code": text}, {"n": 1, "input": text}):
        assert whole(cut(json.dumps(arguments), data)) == expected


WRITTEN = st.lists(
    st.sampled_from(
        [
            *('{"input": "', '"}', '"', "}", ",", "{", "\\", "\\n", "\\u", "\\ud83d", "\\ude00"),
            *(
                " ",
                "a",
                "\n",
                "0041",
                '"input"',
                ":",
                "[]",
                "null",
                "*** Begin Patch",
            ),
            '", "x": "y"',
        ]
    )
).map("".join)


@given(text=WRITTEN, data=st.data())
@example(text='{"input": "', data=None)
@settings(max_examples=600, deadline=None)
def test_no_text_is_lost_and_cuts_do_not_matter(text: str, data: st.DataObject | None) -> None:
    found = whole([text])

    if data is not None:
        assert whole(cut(text, data)) == found
    assert whole(list(text)) == found
    # Only a string that is there, and is empty, makes an empty input.
    assert found or not text or '""' in text.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize(
    "text",
    [
        "*** Begin Patch\n*** End Patch",
        "  indented",
        '{"path": "a", "diff": "b"}',
        '{"input": {"patch": "a"}}',
        '{"input": 5}',
        '{"in',
        '"use strict"; f()',
        "{ const a = 1 }",
        "[1]",
        "null",
        "{}",
        "{" * 100_000,
    ],
)
def test_what_does_not_follow_the_wrapping_is_the_input_itself(text: str) -> None:
    assert whole([text]) == whole(list(text[:2000])) + text[2000:] == text


def test_text_that_is_no_json_streams() -> None:
    unwrapping = FreeformInput()

    assert [unwrapping.feed(piece) for piece in ("  ", "***", " Begin")] == ["", "  ***", " Begin"]


def test_wrapped_text_streams() -> None:
    unwrapping = FreeformInput()
    pieces = ['{"inp', 'ut":', ' "a', "b\\", "nc\\ud8", "3d", "\\ude00d", '"', "}"]

    fed = [unwrapping.feed(piece) for piece in pieces]
    assert fed == ["", "", "a", "b", "\nc", "", "\U0001f600d", "", ""]
    assert unwrapping.rest() == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        # Quotes and backslashes that the model did not escape.
        ('{"input": "say "hi" there"}', 'say "hi" there'),
        ('{"input": "f("a", "b")"}', 'f("a", "b")'),
        ('{"input": "{"a":"b"} c"}', '{"a":"b"} c'),
        (r'{"input": "\d+ \u12 \x"}', r"\d+ \u12 \x"),
        ('{"input": "two\nlines\t"}', "two\nlines\t"),
        # More members than were asked for.
        ('{"input": "a", "why": "b"}', "a"),
        ('{"why": "b", "input": "a"}', "a"),
        ('{"input": "", "patch": "a"}', '{"input": "", "patch": "a"}'),
        ('{"input": "", "n": 1}', ""),
        # Cut off: half an escape is no text.
        ('{"input": "abc', "abc"),
        ('{"input": "abc"', "abc"),
        ('{"input": "abc\\', "abc"),
        (r'{"input": "abc\ud83d\u', "abc"),
        (r'{"input": "a", b\ud83d', 'a", b'),
        ('{"input": "', '{"input": "'),
        # Empty.
        ('{"input": ""}', ""),
        ('""', ""),
        ("", ""),
    ],
)
def test_what_the_model_meant(arguments: str, text: str) -> None:
    assert whole([arguments]) == text
    assert whole(list(arguments)) == text


def test_the_only_string_of_an_object_is_the_input() -> None:
    assert unwrapped('{"a": 1, "b": "x"}') == "x"
    assert unwrapped('{"a": "x", "b": "y"}') == '{"a": "x", "b": "y"}'
