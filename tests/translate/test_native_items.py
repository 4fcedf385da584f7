import pytest

from qwen_mitm.translate.native_items import Heard


@pytest.mark.parametrize(
    ("pieces", "whole", "rest"),
    [
        (["a", "b"], "abc", "c"),
        ([], "abc", "abc"),
        (["abc"], "abc", ""),
        (["abx"], "abc", ""),
        (["a"], "", ""),
        (["a"], None, ""),
    ],
)
def test_of_a_text_that_is_said_once_more_only_the_rest_counts(
    pieces: list[str], whole: str | None, rest: str
) -> None:
    heard = Heard()
    for piece in pieces:
        heard.hear(piece)
    assert heard.rest_of(whole) == rest
