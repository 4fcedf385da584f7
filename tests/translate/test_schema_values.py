import pytest
from pydantic import JsonValue

from qwen_mitm.translate.schema_values import typed_value
from qwen_mitm.wire.response_object import JsonObject


def typed(text: str, schema: JsonValue) -> JsonValue:
    return typed_value(text, "key", {"type": "object", "properties": {"key": schema}})


@pytest.mark.parametrize("text", ["5", "true", "null", "None", '{"a":1}', '"quoted"', " x\n", ""])
def test_a_string_stays_as_it_is_written(text: str) -> None:
    assert typed(text, {"type": "string"}) == text
    assert typed(text, {"enum": ["5", "6"]}) == text
    assert typed(text, {}) == text
    assert typed_value(text, "other", {"type": "object", "properties": {}}) == text


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", "integer", 5),
        (" 5 ", "integer", 5),
        ("5.0", "integer", 5),
        ("-3", "number", -3),
        ("1.50", "number", 1.5),
        ("true", "boolean", True),
        ("False", "boolean", False),
        ("null", "null", None),
        ("None", "null", None),
        ('["a", "b"]', "array", ["a", "b"]),
        ('{"a": {"b": [1]}}', "object", {"a": {"b": [1]}}),
        ('{"a": "line\nline"}', "object", {"a": "line\nline"}),
    ],
)
def test_what_is_no_string_is_parsed(text: str, kind: str, value: JsonValue) -> None:
    parsed = typed(text, {"type": kind})

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("five", "integer"),
        ("5.5", "integer"),
        ("1e999", "number"),
        ("NaN", "number"),
        ("Infinity", "number"),
        ("1", "boolean"),
        ("true", "integer"),
        ("[1,", "array"),
        ("[1]", "object"),
        ("[" * 100_000, "array"),
        ("9" * 10_000, "integer"),
        ("", "object"),
    ],
)
def test_what_does_not_fit_the_schema_stays_text(text: str, kind: str) -> None:
    assert typed(text, {"type": kind}) == text


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("null", {"type": ["string", "null"]}, None),
        ("word", {"type": ["string", "null"]}, "word"),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ('["a"]', {"oneOf": [{"type": "string"}, {"type": "array"}]}, ["a"]),
        ('"a"', {"type": ["string", "integer"]}, '"a"'),
        ("2", {"enum": [1, 2]}, 2),
        ("2", {"const": 2}, 2),
        ('{"a":1}', {"properties": {"a": {}}}, {"a": 1}),
        ("[1]", {"items": {}}, [1]),
    ],
)
def test_unions_and_schemas_without_a_type_are_understood(
    text: str, schema: JsonValue, value: JsonValue
) -> None:
    assert typed(text, schema) == value


def test_references_are_followed() -> None:
    parameters: JsonObject = {
        "type": "object",
        "properties": {"key": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]}},
        "$defs": {"Place": {"type": "object"}},
    }

    assert typed_value('{"x": 1}', "key", parameters) == {"x": 1}


@pytest.mark.parametrize("reference", ["#", "#/properties/key", "#/nowhere/at", "other.json", ""])
def test_references_in_circles_and_into_nothing_leave_text(reference: str) -> None:
    assert typed("x", {"$ref": reference}) == "x"


def test_other_keys_follow_the_schema_of_additional_properties() -> None:
    parameters: JsonObject = {"type": "object", "additionalProperties": {"type": "integer"}}

    assert typed_value("5", "any", parameters) == 5
