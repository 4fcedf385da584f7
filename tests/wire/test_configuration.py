from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.configuration import JsonSchemaFormat, PlainFormat
from qwen_mitm.wire.responses import parse_request


def test_an_effort_and_a_format_are_typed() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"a": [1]}}
    request = parse_request(
        to_json({"reasoning": {"effort": "ultra", "mode": "x"}, "text": {"format": schema}})
    )

    assert request.reasoning is not None
    assert request.reasoning.effort == "ultra"
    assert request.text is not None
    assert isinstance(request.text.format, JsonSchemaFormat)
    assert request.text.echo() == {"format": schema}


def test_a_plain_format_has_a_type_alone() -> None:
    request = parse_request(b'{"text": {"format": {"type": "json_object"}}}')

    assert request.text is not None
    assert isinstance(request.text.format, PlainFormat)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ],
)
def test_another_value_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(to_json(fields))

    assert refused.value.param == param
