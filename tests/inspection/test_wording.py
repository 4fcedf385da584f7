import pytest

from qwen_mitm.inspection.wording import (
    LONGEST_STRING,
    LONGEST_TEXT,
    WIDTH,
    arguments_in_words,
    cut,
    cut_values,
    file_in_words,
    heading,
    listed,
    read_json,
    rule,
    size,
)


def test_long_texts_keep_beginning_and_end_and_say_what_is_left_out() -> None:
    text = "a" * LONGEST_TEXT + "middle" + "z" * LONGEST_TEXT
    shown = cut(text)
    assert shown.startswith("aaa")
    assert shown.endswith("zzz")
    assert f"[… {len(text) - LONGEST_TEXT:,} characters left out here …]" in shown
    assert cut("short") == "short"


def test_long_strings_in_json_are_cut_and_data_is_named() -> None:
    value = cut_values({"a": ["x" * 1_000, 5, None], "b": "data:image/png;base64," + "AAAA" * 500})
    assert value == {
        "a": [f"{'x' * LONGEST_STRING} [… 800 more characters]", 5, None],
        "b": "[image/png, 1.5 kB]",
    }


def test_arguments_are_a_line_each_and_texts_keep_their_lines() -> None:
    assert arguments_in_words('{"path":"a.py","lines":[1,2],"all":true,"text":"one\\ntwo"}') == (
        "path: a.py\nlines: [1, 2]\nall: true\ntext:\n  one\n  two"
    )


@pytest.mark.parametrize("arguments", ["*** Begin Patch", "[1, 2]", '{"cut off'])
def test_arguments_that_are_no_object_stay_as_they_are(arguments: str) -> None:
    assert arguments_in_words(arguments) == arguments


def test_files_are_named_by_kind_and_size() -> None:
    assert file_in_words("image", "data:image/png;base64,AAAAAAA=") == "[image image/png, 5 bytes]"
    assert file_in_words("image", "https://a.test/b.png") == "[image https://a.test/b.png]"
    assert file_in_words("image", None) == "[image]"
    assert file_in_words("file", "data:,plain") == "[file data:,plain]"


@pytest.mark.parametrize(
    ("count", "words"), [(5, "5 bytes"), (41_234, "41.2 kB"), (3_400_000, "3.4 MB")]
)
def test_sizes_are_short(count: int, words: str) -> None:
    assert size(count) == words


def test_what_is_no_json_is_none() -> None:
    assert read_json(b'{"cut') is None
    assert read_json('{"a": 1}') == {"a": 1}


def test_headings_have_one_line_of_one_width() -> None:
    assert len(heading("Answer")) == len(rule("user")) == WIDTH


def test_words_are_listed_in_lines_of_the_width() -> None:
    lines = listed(["word " * 5] * 6 + [""], "  ").splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("  word")
