"""What the arguments of a call mean for the built-in tools that a client runs (§4).

Models that were not trained on these tools miss their schema now and then. What they obviously mean
is taken; what nobody can carry out becomes an action that fails, so that the model hears of it, and
never one that does something else.
"""

from __future__ import annotations

import json
from typing import Final

from pydantic import JsonValue

from qwen_mitm.wire.request_faults import without_lone_surrogates
from qwen_mitm.wire.response_object import JsonObject

_OPERATIONS: Final = frozenset({"create_file", "update_file", "delete_file"})


def search_arguments(arguments: str) -> JsonObject:
    value = _value(arguments)
    if isinstance(value, dict):
        return value
    text = value if isinstance(value, str) else arguments
    return {"query": text} if text.strip() else {}


def local_shell_action(arguments: str) -> JsonObject:
    value = _value(arguments)
    fields: JsonObject = value if isinstance(value, dict) else {"command": value}
    given = fields.get("command", fields.get("commands"))
    command = _texts(given)
    if isinstance(given, str) and given:
        command = ["bash", "-lc", given]
    action: JsonObject = {"type": "exec", "command": [*command], "env": {}}
    if isinstance(directory := fields.get("working_directory"), str):
        action["working_directory"] = directory
    return {**action, **_integers(fields, "timeout_ms")}


def shell_action(arguments: str) -> JsonObject:
    value = _value(arguments)
    fields: JsonObject = value if isinstance(value, dict) else {"commands": value}
    commands = _texts(fields.get("commands", fields.get("command")))
    return {"commands": [*commands], **_integers(fields, "timeout_ms", "max_output_length")}


def patch_operation(arguments: str) -> JsonObject:
    value = _value(arguments)
    fields = value if isinstance(value, dict) else {}
    kind, path, diff = (fields.get(key) for key in ("type", "path", "diff"))
    if not isinstance(path, str) or kind not in _OPERATIONS:
        # Without a file there is nothing that it could be applied to.
        return {"type": "update_file", "path": "", "diff": arguments}
    if kind == "delete_file":
        return {"type": kind, "path": path}
    return {"type": kind, "path": path, "diff": diff if isinstance(diff, str) else ""}


def _value(arguments: str) -> JsonValue:
    """What the JSON says; a text that does not even begin like an object is taken at its word."""
    try:
        found: JsonValue = json.loads(
            without_lone_surrogates(arguments.encode()),
            strict=False,
            # NaN is no JSON, and clients would stumble over it.
            parse_constant=lambda _: None,
        )
    except (ValueError, RecursionError):
        text = arguments.strip()
        return None if text.startswith(("{", "[", '"')) else text
    return found


def _texts(value: JsonValue) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str)]
    return []


def _integers(fields: JsonObject, *names: str) -> JsonObject:
    given: JsonObject = {name: fields.get(name) for name in names}
    return {name: value for name, value in given.items() if type(value) is int}
