"""Sensible values that fit a JSON schema."""

from __future__ import annotations

from typing import Any

_WORDS = {
    "city": "Hangzhou",
    "location": "Hangzhou",
    "country": "China",
    "path": "README.md",
    "file": "README.md",
    "filename": "README.md",
    "command": "ls",
    "query": "qwen",
    "url": "https://example.com/",
    "name": "Ada",
    "date": "2026-11-20",
    "unit": "celsius",
}
_FORMATS = {
    "date": "2026-11-20",
    "date-time": "2026-11-20T12:00:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_DEPTH = 12


class InvalidSchema(ValueError):
    """This is no JSON schema."""


def example(schema: Any) -> Any:
    """A value for the schema: required properties only, or all of them when none is required."""
    try:
        return _example(schema)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise InvalidSchema(str(error)) from error


def _example(schema: Any, name: str = "", root: Any = None, depth: int = 0) -> Any:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return None
    root = schema if root is None else root
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    if reference := schema.get("$ref"):
        return _example(_resolve(reference, root), name, root, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _example(schema[key][0], name, root, depth + 1)
    return _by_type(schema, name, root, depth)


def _by_type(schema: dict[str, Any], name: str, root: Any, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    match kind:
        case "object":
            properties = schema.get("properties") or {}
            wanted = schema.get("required") or list(properties)
            return {key: _example(properties.get(key), key, root, depth + 1) for key in wanted}
        case "array":
            count = max(1, schema.get("minItems", 1))
            return [_example(schema.get("items", {}), name, root, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema, name)


def _text(schema: dict[str, Any], name: str) -> str:
    text = _FORMATS.get(schema.get("format", "")) or _WORDS.get(name.lower()) or name or "text"
    text = text.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]


def _resolve(reference: str, root: Any) -> Any:
    node = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            node = node.get(step, {}) if isinstance(node, dict) else {}
    return node
