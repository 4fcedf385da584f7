from typing import Any

import pytest

from qwen_mitm.errors import InvalidRequest
from tests.translate.sending import call, messages, output, sent, translated, user

FILE = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}


def part_of(part: dict[str, Any], provider: str = "generic") -> Any:
    (message,) = messages(user([{"type": "input_text", "text": "see"}, part]), provider=provider)
    return message["content"][1]


@pytest.mark.parametrize("kind", ["input_text", "output_text", "text"])
def test_one_text_becomes_a_plain_string(kind: str) -> None:
    assert messages(user([{"type": kind, "text": "hi"}])) == [user("hi")]


def test_several_texts_stay_parts() -> None:
    texts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]

    assert messages(user(texts)) == [
        user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    ]


@pytest.mark.parametrize(
    ("detail", "expected"),
    [(None, None), ("low", "low"), ("high", "high"), ("auto", "auto"), ("original", "high")],
)
def test_an_image_keeps_its_url_and_a_detail_that_chat_knows(
    detail: str | None, expected: str | None
) -> None:
    image = part_of({"type": "input_image", "image_url": "data:x", "detail": detail})

    assert image["type"] == "image_url"
    assert image["image_url"]["url"] == "data:x"
    assert image["image_url"].get("detail") == expected


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "input_image", "file_id": "file_1"}, "file_id"),
        ({"type": "input_image"}, "image_url"),
        ({"type": "input_file", "file_id": "file_1"}, "file_id"),
        ({"type": "input_file", "file_url": "https://example.org/a.pdf"}, "file_url"),
        (FILE, "file_data"),
    ],
)
def test_what_a_host_cannot_read_is_refused_by_field(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        part_of(part)

    assert refused.value.param == f"input[0].content[1].{field}"


def test_a_file_goes_to_a_host_that_takes_files() -> None:
    assert part_of(FILE, "openrouter") == {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
    }


def test_audio_goes_to_a_host_that_takes_audio() -> None:
    assert part_of(AUDIO, "dashscope") == AUDIO
    assert translated({"input": [user([AUDIO])]}, provider="dashscope").report.header() == ""


def test_audio_is_replaced_by_a_text_elsewhere_with_a_warning() -> None:
    placeholder = "[audio omitted: provider does not support input_audio]"

    assert part_of(AUDIO) == {"type": "text", "text": placeholder}
    assert messages(user([AUDIO]), provider="portal")[1] == user(placeholder)
    translation = translated({"input": [user([AUDIO])]}, provider="portal")
    assert translation.report.header() == "dropped_content; input_audio"


def test_a_refusal_is_text_of_the_assistant() -> None:
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}

    assert messages(user("go"), refusal)[1] == {"role": "assistant", "content": "I cannot."}


@pytest.mark.parametrize("role", ["assistant", "system", "developer"])
def test_an_image_outside_of_user_messages_is_refused(role: str) -> None:
    content = [{"type": "text", "text": "x"}, {"type": "input_image", "image_url": "data:x"}]

    with pytest.raises(InvalidRequest, match="only possible in a user message") as refused:
        messages(user("go"), {"role": role, "content": content})

    assert refused.value.param == "input[1].content[1].type"


def test_a_fault_in_an_output_names_the_part_of_the_output() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent({"input": [user("go"), call("c1"), output("c1", [FILE])]})

    assert refused.value.param == "input[2].output[0].file_data"
