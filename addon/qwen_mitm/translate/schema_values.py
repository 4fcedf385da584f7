"""Text becomes the value that a tool's JSON schema wants, where a host sends untyped text."""

from __future__ import annotations

import math
from json import JSONDecoder
from typing import Final

from pydantic import JsonValue

from qwen_mitm.wire.response_object import JsonObject

_PYTHON: Final[dict[str, JsonValue]] = {"True": True, "False": False, "None": None}
"""Qwen's template shows the model its own earlier arguments in this spelling."""
_KEYWORDS: Final = {"properties": "object", "items": "array"}
_COMBINED: Final = ("anyOf", "oneOf", "allOf")
#: References may go round in circles.
_DEEPEST: Final = 8


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


def _refuse(constant: str) -> JsonValue:
    raise ValueError(constant)


#: JSON as models write it, with line breaks in strings; never a number that JSON cannot write.
MODEL_JSON: Final = JSONDecoder(strict=False, parse_float=_finite, parse_constant=_refuse)


def typed_value(text: str, key: str, parameters: JsonObject) -> JsonValue:
    """The value of an argument; text that is not what the schema says stays text."""
    types = _types(_schema_of(key, parameters), parameters, 0)
    if types <= {"string"}:
        return text
    try:
        value = _parsed(text.strip())
    except (ValueError, RecursionError):
        return text
    if isinstance(value, float) and value.is_integer() and "number" not in types:
        value = int(value)
    return text if types.isdisjoint(_types_of(value)) else value


def _parsed(text: str) -> JsonValue:
    if text in _PYTHON:
        return _PYTHON[text]
    value: JsonValue = MODEL_JSON.decode(text)
    return value


def _types_of(value: JsonValue) -> frozenset[str]:
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            return frozenset({"number"})
        case list():
            return frozenset({"array"})
        case dict():
            return frozenset({"object"})
        case str():
            # A text in quotes is the text with its quotes: nobody writes strings as JSON here.
            return frozenset()


def _schema_of(key: str, parameters: JsonObject) -> JsonValue:
    match parameters.get("properties"):
        case dict(properties) if key in properties:
            return properties[key]
    return parameters.get("additionalProperties")


def _types(schema: JsonValue, root: JsonObject, depth: int) -> frozenset[str]:
    """The names of the types that a schema allows; none when it does not say."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return frozenset()
    found: set[str] = set()
    match schema.get("type"):
        case str(name):
            found.add(name)
        case list(names):
            found.update(name for name in names if isinstance(name, str))
    match schema.get("$ref"):
        case str(reference):
            found |= _types(_target(reference, root), root, depth + 1)
    for keyword in _COMBINED:
        match schema.get(keyword):
            case list(members):
                found.update(*(_types(member, root, depth + 1) for member in members))
    if not found:
        found.update(name for keyword, name in _KEYWORDS.items() if keyword in schema)
        found.update(*(_allowed_types(value) for value in _allowed(schema)))
    return frozenset(found)


def _allowed(schema: JsonObject) -> list[JsonValue]:
    values = schema.get("enum")
    listed = values if isinstance(values, list) else []
    return [*listed, schema["const"]] if "const" in schema else listed


def _allowed_types(value: JsonValue) -> frozenset[str]:
    return frozenset({"string"}) if isinstance(value, str) else _types_of(value)


def _target(reference: str, root: JsonObject) -> JsonValue:
    """What ``#/$defs/Name`` points to."""
    place: JsonValue = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if not isinstance(place, dict):
            return None
        place = place.get(step.replace("~1", "/").replace("~0", "~"))
    return place
