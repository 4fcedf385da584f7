import pytest

from qwen_mitm.web_chat.events import parse_chunk, validate_parent_id
from tests.web_chat.pieces import PARENT


def test_the_first_event_has_a_dotted_key() -> None:
    chunk = parse_chunk(b'{"response.created":{"chat_id":"c","parent_id":"p","response_id":"r"}}')
    assert chunk is not None
    assert chunk.created is not None
    assert (chunk.created.chat_id, chunk.created.parent_id) == ("c", "p")
    assert chunk.choices == ()


def test_usage_is_read_in_the_names_of_the_site() -> None:
    chunk = parse_chunk(b'{"choices":[],"usage":{"input_tokens":33,"output_tokens":2}}')
    assert chunk is not None
    assert chunk.usage is not None
    assert (chunk.usage.prompt_tokens, chunk.usage.completion_tokens) == (33, 2)


@pytest.mark.parametrize("data", [b"", b"[1]", b"3", b"null", b"<html>", b"{"])
def test_what_is_no_object_is_no_chunk(data: bytes) -> None:
    assert parse_chunk(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":null,"usage":[],"data":"x","response.created":7}',
        b'{"choices":[{"delta":{"content":["a"],"extra":"x"}},3]}',
        b'{"data":{"num":"soon","choices":{}}}',
    ],
)
def test_fields_of_the_wrong_kind_read_as_absent(data: bytes) -> None:
    chunk = parse_chunk(data)
    assert chunk is not None
    assert chunk.refusal is None
    assert all(c.delta is None or c.delta.content is None for c in chunk.choices)


def test_an_error_line_is_a_refusal() -> None:
    chunk = parse_chunk(b'{"error":{"code":"RateLimited","details":"slow","num":"3"}}')
    assert chunk is not None
    assert chunk.refusal is not None
    assert (chunk.refusal.code, chunk.refusal.details, chunk.refusal.num) == (
        "RateLimited",
        "slow",
        3,
    )


def test_a_parent_id_is_a_uuid_or_absent() -> None:
    assert validate_parent_id(None) is None
    assert validate_parent_id(PARENT) == PARENT
    for wrong in ("", "x", f"{PARENT}0", f" {PARENT}", PARENT.replace("-", "")):
        with pytest.raises(ValueError, match="UUID"):
            validate_parent_id(wrong)
