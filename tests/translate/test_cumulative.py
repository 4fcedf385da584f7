from __future__ import annotations

import pytest

from qwen_mitm.translate.cumulative import CumulativeDeltas


def undone(*deltas: str) -> str:
    cumulative = CumulativeDeltas(certain=lambda text: len(text) >= 16, repeat_from=64)
    return "".join(map(cumulative.new_text, deltas)) + cumulative.rest()


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["I", "I am", "I am here"], "I am here"),
        (["I", "I am", "I am here", "I am here", "I am here."], "I am here."),
        (["A long first delta", "A long first delta, and more"], "A long first delta, and more"),
        (["I", "I am", "I am here", "Then", "Then I went"], "I am hereThen I went"),
        (["x" * 64, "x" * 64], "x" * 64),
    ],
)
def test_running_totals_become_deltas(deltas: list[str], text: str) -> None:
    assert undone(*deltas) == text


@pytest.mark.parametrize(
    "deltas",
    [
        ["ha", "ha"],
        ["ha", "haha", "hahahaha"],
        ["=", "==", "===="],
        ["1", "10", "!"],
        ["1", "10"],
        ["a", "b", "a", "ab", "aba"],
        ["x" * 63, "x" * 63],
    ],
)
def test_legitimate_repetition_survives(deltas: list[str]) -> None:
    assert undone(*deltas) == "".join(deltas)


def test_ordinary_text_settles_with_its_second_delta() -> None:
    cumulative = CumulativeDeltas(certain=lambda text: len(text) >= 16, repeat_from=64)
    assert [cumulative.new_text(it) for it in ("Hello", " there")] == ["Hello", " there"]
    assert cumulative.settled
