"""One fault of a request in OpenAI's words: the JSON path of the field, what was expected there.

Never pydantic's own text, and never a value that could be a secret or a whole body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json

from qwen_mitm.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic import JsonValue, ValidationError
    from pydantic_core import ErrorDetails

type Path = tuple[str | int, ...]

_EXPECTED: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "tuple_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "union_tag_not_found": "an object",
    "finite_number": "a finite number",
}
_SHOWABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_ESCAPE: Final = re.compile(
    rb"\\(?:[^u]"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|u)"
)


def json_path(path: Path) -> str | None:
    """``input[3].content[0].type``; ``None`` for the body itself."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or None


def without_lone_surrogates(body: bytes) -> bytes:
    """Half a surrogate pair, which is no character, replaced by U+FFFD."""

    def replaced(escape: re.Match[bytes]) -> bytes:
        return rb"\ufffd" if escape["lone"] else escape[0]

    return _ESCAPE.sub(replaced, body)


def first_fault(error: ValidationError, body: bytes) -> InvalidRequest:
    """The first field that is wrong; ``body`` is what was validated."""
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        reason = details[0].get("ctx", {}).get("error", "it cannot be parsed")
        return InvalidRequest(
            f"The request body is not valid JSON: {reason}. Send one JSON object in UTF-8."
        )
    document: JsonValue = from_json(body)
    if not isinstance(document, dict):
        return InvalidRequest("The request body must be a JSON object.")
    faults = [(_resolve(document, detail), detail) for detail in details]
    first = faults[0][0]
    # A value that may be a string or an array has one fault per form: the deepest is the real one.
    within = [fault for fault in faults if fault[0][: len(first)] == first]
    depth = max(len(path) for path, _ in within)
    path = next(path for path, _ in within if len(path) == depth)
    same = [detail for other, detail in within if other == path]
    return InvalidRequest(_message(path, same, document), param=json_path(path))


def _resolve(document: JsonValue, detail: ErrorDetails) -> Path:
    """The JSON path of a pydantic location, which also names the members of unions it tried."""
    steps: list[str | int] = []
    here: JsonValue = document
    for step in detail["loc"]:
        found, child = _child(here, step)
        if found:
            here = child
            steps.append(step)
    if detail["type"] == "missing":
        steps.append(detail["loc"][-1])
    elif detail["type"] in {"union_tag_invalid", "union_tag_not_found"} and isinstance(here, dict):
        steps.append("type")
    return tuple(steps)


def _message(path: Path, details: Sequence[ErrorDetails], document: JsonValue) -> str:
    name = json_path(path)
    found, value = _lookup(path, document)
    if not found:
        return f"Missing required parameter: '{name}'."
    context: Mapping[str, object] = details[0].get("ctx", {})
    match details[0]["type"]:
        case "literal_error" | "union_tag_invalid":
            allowed = context.get("expected", context.get("expected_tags"))
            return f"Invalid value for '{name}'{_shown(value)}. Supported values are: {allowed}."
        case "string_too_short":
            return f"Invalid value for '{name}': it must not be empty."
        case "greater_than_equal":
            return f"Invalid value for '{name}': it must be at least {context['ge']}."
        case "less_than_equal":
            return f"Invalid value for '{name}': it must be at most {context['le']}."
        case _:
            pass
    expected = dict.fromkeys(
        _EXPECTED[detail["type"]] for detail in details if detail["type"] in _EXPECTED
    )
    wanted = " or ".join(expected) or "another value"
    return f"Invalid type for '{name}': expected {wanted}, but got {_kind(value)} instead."


def _lookup(path: Path, document: JsonValue) -> tuple[bool, JsonValue]:
    found, here = True, document
    for step in path:
        found, here = _child(here, step)
    return found, here


def _child(value: JsonValue, step: str | int) -> tuple[bool, JsonValue]:
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return True, value[step]
    if isinstance(value, dict) and isinstance(step, str) and step in value:
        return True, value[step]
    return False, None


def _shown(value: JsonValue) -> str:
    return f": '{value}'" if isinstance(value, str) and _SHOWABLE.fullmatch(value) else ""


def _kind(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int():
            return "an integer"
        case float():
            return "a number"
        case list():
            return "an array"
        case _:
            return "an object"
