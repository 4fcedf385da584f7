from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.request_tools import (
    AllowedTools,
    ApplyPatchTool,
    BuiltInChoice,
    CustomTool,
    FunctionTool,
    HostedTool,
    LocalShellTool,
    NamedChoice,
    NamespaceTool,
    ShellTool,
    ToolSearchTool,
    UnknownTool,
)
from qwen_mitm.wire.responses import parse_request

GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
MEMBER = {"type": "function", "name": "close", "strict": False, "defer_loading": True}


@pytest.mark.parametrize(
    ("tool", "model"),
    [
        ({"type": "function", "name": "f"}, FunctionTool),
        ({"type": "namespace", "name": "n", "tools": [MEMBER]}, NamespaceTool),
        ({"type": "custom", "name": "c", "format": GRAMMAR}, CustomTool),
        ({"type": "custom", "name": "c", "format": {"type": "text"}, "async": True}, CustomTool),
        ({"type": "tool_search", "execution": "client"}, ToolSearchTool),
        ({"type": "local_shell"}, LocalShellTool),
        ({"type": "shell", "environment": {"type": "local", "skills": []}}, ShellTool),
        ({"type": "apply_patch"}, ApplyPatchTool),
        ({"type": "web_search"}, HostedTool),
        ({"type": "web_search_preview_2025_03_11"}, HostedTool),
        ({"type": "computer_use_preview"}, HostedTool),
        ({"type": "mcp", "server_label": "x"}, HostedTool),
        ({"type": "telepathy"}, UnknownTool),
    ],
)
def test_every_tool_type_has_its_model_and_is_echoed_as_it_was(
    tool: dict[str, Any], model: type
) -> None:
    (parsed,) = parse_request(to_json({"tools": [tool]})).tools or ()

    assert type(parsed) is model
    assert parsed.echo() == tool


@pytest.mark.parametrize(
    ("choice", "model"),
    [
        ({"type": "function", "name": "f"}, NamedChoice),
        ({"type": "custom", "name": "f", "later": [1]}, NamedChoice),
        ({"type": "web_search"}, BuiltInChoice),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
            AllowedTools,
        ),
    ],
)
def test_every_tool_choice_has_its_model_and_is_echoed_as_it_was(
    choice: dict[str, Any], model: type
) -> None:
    parsed = parse_request(to_json({"tool_choice": choice})).tool_choice

    assert type(parsed) is model
    assert isinstance(parsed, NamedChoice | AllowedTools | BuiltInChoice)
    assert parsed.echo() == choice


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "custom"}, "tools[0].name"),
        ({"type": "custom", "name": "c", "format": {"type": "xml"}}, "tools[0].format.type"),
        (
            {"type": "custom", "name": "c", "format": {**GRAMMAR, "definition": None}},
            "tools[0].format.definition",
        ),
        ({"type": "tool_search", "execution": "both"}, "tools[0].execution"),
        (
            {"type": "namespace", "name": "n", "tools": [{"type": "custom"}]},
            "tools[0].tools[0].name",
        ),
    ],
)
def test_a_tool_that_is_declared_wrongly_is_refused_with_its_field(
    tool: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(to_json({"tools": [tool]}))

    assert refused.value.param == param
