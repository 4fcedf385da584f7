from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.content import AudioPart, FilePart, ImagePart, RefusalPart, TextPart
from qwen_mitm.wire.input_items import Message
from qwen_mitm.wire.responses import parse_request


@pytest.mark.parametrize(
    ("part", "model"),
    [
        ({"type": "input_text", "text": "a"}, TextPart),
        ({"type": "output_text", "text": "a", "annotations": []}, TextPart),
        ({"type": "input_image", "image_url": "u", "detail": "original"}, ImagePart),
        ({"type": "input_file", "file_id": "f"}, FilePart),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}}, AudioPart),
        ({"type": "refusal", "refusal": "no"}, RefusalPart),
    ],
)
def test_every_part_has_its_model(part: dict[str, Any], model: type) -> None:
    request = parse_request(to_json({"input": [{"role": "user", "content": [part]}]}))

    assert isinstance(request.input, tuple)
    (message,) = request.input
    assert isinstance(message, Message)
    assert [type(each) for each in message.content] == [model]


def test_an_unknown_part_is_refused_by_its_type() -> None:
    with pytest.raises(InvalidRequest, match="'smell'") as refused:
        parse_request(to_json({"input": [{"role": "user", "content": [{"type": "smell"}]}]}))

    assert refused.value.param == "input[0].content[0].type"
