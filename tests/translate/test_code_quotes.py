import pytest

from qwen_mitm.translate.code_quotes import CodeQuotes


@pytest.mark.parametrize(
    "text", ["```", "```py\nx", "~~~\n```\n", "a `b", "* x\n  ```\n", "````\n```\n"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_code_is_open(text: str, size: int) -> None:
    code = CodeQuotes()
    for start in range(0, len(text), size):
        code.feed(text[start : start + size])
    assert code.is_open


@pytest.mark.parametrize(
    "text", ["", "a", "`a`", "```\nx\n```\n", "~~~\n```\n~~~\n", "``` a ``` b\n"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_code_is_closed(text: str, size: int) -> None:
    code = CodeQuotes()
    for start in range(0, len(text), size):
        code.feed(text[start : start + size])
    assert not code.is_open
