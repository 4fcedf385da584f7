from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.translate.definitions import definition
from qwen_mitm.wire.chat_request import FunctionDefinition
from qwen_mitm.wire.request_tools import HostedTool, NamespaceTool, UnknownTool
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import parse_request


def defined(tool: dict[str, Any]) -> FunctionDefinition:
    (parsed,) = parse_request(to_json({"tools": [tool]})).tools or ()
    assert not isinstance(parsed, NamespaceTool | HostedTool | UnknownTool)
    return definition(parsed, "flat")


def test_a_function_keeps_its_schema_and_nothing_of_openais() -> None:
    schema: JsonObject = {"type": "object", "properties": {"x": {}}}
    flags = {"defer_loading": True, "allowed_callers": ["direct"], "output_schema": {}}

    assert defined({"type": "function", "name": "f", "parameters": schema, **flags}) == (
        FunctionDefinition(name="flat", description=None, parameters=schema, strict=None)
    )


def test_a_freeform_tool_has_one_required_string() -> None:
    made = defined({"type": "custom", "name": "run", "description": "Runs code."})

    assert made.name == "flat"
    assert made.parameters == {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    assert made.description is not None
    assert made.description.startswith("Runs code.\n\n")


def test_a_grammar_is_shown_to_the_model_with_its_syntax() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: LINE+\nLINE: /.+/"}
    made = defined({"type": "custom", "name": "run", "format": grammar})

    assert made.description is not None
    assert made.description.endswith("lark grammar:\nstart: LINE+\nLINE: /.+/")


def test_a_search_has_the_clients_words_and_schema() -> None:
    schema = {"type": "object", "properties": {"query": {"type": "string"}}}
    own = {"description": "Finds tools.", "parameters": schema}
    made = defined({"type": "tool_search", "execution": "client", **own})

    assert (made.description, made.parameters) == ("Finds tools.", schema)
    assert defined({"type": "tool_search", "execution": "client"}).parameters["required"] == [
        "query"
    ]


@pytest.mark.parametrize(
    ("kind", "properties", "required"),
    [
        ("local_shell", ["command", "working_directory", "timeout_ms"], ["command"]),
        ("shell", ["commands", "timeout_ms", "max_output_length"], ["commands"]),
        ("apply_patch", ["type", "path", "diff"], ["type", "path"]),
    ],
)
def test_a_built_in_tool_has_the_fields_of_its_action(
    kind: str, properties: list[str], required: list[str]
) -> None:
    made = defined({"type": kind})

    shown = made.parameters["properties"]
    assert isinstance(shown, dict)
    assert list(shown) == properties
    assert made.parameters["required"] == required
    assert made.description
