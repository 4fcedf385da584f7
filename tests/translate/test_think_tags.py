from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen_mitm.translate.think_tags import Piece, ThinkTags

# fmt: off
FRAGMENTS = st.sampled_from([
    "<think>", "</think>", "<think", "</thin", ">", "<", "/", "think", "\n", "\n\n", " ", " " * 70,
    "hm", "yes", "```", "~~~", "`", "<thinking>", "é", "<b>", "1<2", "\n\n<think>\n",
    "</think>\n\n",
])
# fmt: on
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)
PLAIN = st.text().filter(lambda text: "<think>" not in text and "</think>" not in text)


def split(*deltas: str) -> list[Piece]:
    tags = ThinkTags()
    pieces = [piece for delta in deltas for piece in tags.feed(delta)]
    return joined(pieces + tags.rest())


def joined(pieces: list[Piece]) -> list[Piece]:
    groups = groupby(pieces, key=lambda piece: piece[0])
    return [(kind, "".join(text for _, text in group)) for kind, group in groups]


def chunks(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    ends = [*places, len(text)]
    return [text[start:end] for start, end in zip([0, *places], ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<think>hm</think>yes", [("thought", "hm"), ("text", "yes")]),
        ("<think>\nhm\n</think>\n\nyes\n", [("thought", "hm\n"), ("text", "yes\n")]),
        ("\n<think>hm</think>yes", [("thought", "hm"), ("text", "yes")]),
        ("<think>\n\n</think>\n\nyes", [("text", "yes")]),
        ("<think></think>", []),
        ("<think>hm", [("thought", "hm")]),
        ("<think>hm</thin", [("thought", "hm</thin")]),
        ("<think>a <think> b</think>c", [("thought", "a <think> b"), ("text", "c")]),
        ("<think>a</think>\n<think>b</think>c", [("thought", "ab"), ("text", "c")]),
        ("a\n<think>hm</think>\nb", [("text", "a\n"), ("thought", "hm"), ("text", "b")]),
        ("a\n  <think>hm</think>b", [("text", "a\n  "), ("thought", "hm"), ("text", "b")]),
        ("```\nx\n```\n<think>h", [("text", "```\nx\n```\n"), ("thought", "h")]),
    ],
)
def test_thought_and_text_are_told_apart(text: str, pieces: list[Piece]) -> None:
    assert split(text) == pieces
    assert split(*text) == pieces


@pytest.mark.parametrize("text", ["</think>yes", "\n</think>\n\nyes", "</think></think>yes"])
def test_a_closing_tag_at_the_beginning_is_left_out(text: str) -> None:
    assert split(text) == [("text", "yes")]
    assert split(*text) == [("text", "yes")]


@pytest.mark.parametrize(
    "text",
    [
        "Qwen writes `<think>` first.",
        "a <think> b",
        "an answer</think>",
        "an answer\n</think>\n",
        "<thinking>hm</thinking>",
        "<Think>hm</Think>",
        "<think >hm",
        "< think>hm",
        "</thinking>",
        "<thin",
        "1 < 2",
        "```\n<think>hm</think>\n```\n",
        "~~~ xml\n```\n<think>hm",
        "\n \n",
        " " * 80 + "<thin",
        "",
    ],
)
def test_what_is_no_thought_passes_unchanged(text: str) -> None:
    assert split(text) == ([("text", text)] if text else [])
    assert split(*text) == ([("text", text)] if text else [])


@given(text=TEXTS, cuts=st.lists(st.integers(0, 1000), max_size=12))
@example(text="a\n<think>hm</think>b", cuts=[1, 4, 9, 15])
def test_pieces_do_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    assert split(*chunks(text, cuts)) == split(text)


@given(text=PLAIN | st.text("<>/thinkk \n`"), cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_text_without_tags_is_byte_identical_and_comes_at_once(text: str, cuts: list[int]) -> None:
    if "<think>" in text or "</think>" in text:
        return
    tags = ThinkTags()
    fed = came = ""
    for chunk in chunks(text, cuts):
        fed += chunk
        for kind, piece in tags.feed(chunk):
            assert kind == "text"
            came += piece
        assert fed.startswith(came)
        held = fed[len(came) :].lstrip() if came == "" else fed[len(came) :]
        assert "<think>".startswith(held) or "</think>".startswith(held)
        assert len(fed) - len(came) <= 64 + len("</think>")
    assert came + "".join(piece for _, piece in tags.rest()) == text


@given(text=TEXTS)
def test_nothing_is_lost_but_tags_and_space(text: str) -> None:
    def bare(words: str) -> str:
        return "".join(words.replace("<think>", "").replace("</think>", "").split())

    assert bare("".join(piece for _, piece in split(text))) == bare(text)


@given(
    thought=PLAIN.map(str.lstrip), answer=PLAIN.map(str.lstrip), cuts=st.lists(st.integers(0, 1000))
)
def test_what_a_host_wraps_is_unwrapped(thought: str, answer: str, cuts: list[int]) -> None:
    leaked = f"<think>\n{thought}</think>\n\n{answer}"

    pieces = [("thought", thought)] if thought else []
    assert split(*chunks(leaked, cuts)) == pieces + ([("text", answer)] if answer else [])


def test_after_the_rest_another_text_begins() -> None:
    tags = ThinkTags()
    tags.feed("text <think>, and a fence\n```\n")
    tags.rest()

    assert tags.feed("<think>hm") == [("thought", "hm")]
    assert tags.rest() == []
    assert tags.feed("yes") == [("text", "yes")]


def test_a_long_answer_costs_as_much_as_its_length() -> None:
    tags = ThinkTags()
    came = sum(len(text) for _ in range(200_000) for _, text in tags.feed("abcd"))

    assert came == 800_000
