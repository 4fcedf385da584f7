from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.wire.request_tools import (
    AllowedTools,
    BuiltInChoice,
    ClientTool,
    FunctionTool,
    HostedTool,
    NamedChoice,
    NamespaceTool,
    UnknownTool,
)
from qwen_mitm.wire.responses import parse_request

MEMBER = {"type": "function", "name": "close", "strict": False, "defer_loading": True}


@pytest.mark.parametrize(
    ("tool", "model"),
    [
        ({"type": "function", "name": "f"}, FunctionTool),
        ({"type": "namespace", "name": "n", "tools": [MEMBER]}, NamespaceTool),
        ({"type": "custom", "name": "c", "format": {"type": "grammar"}}, ClientTool),
        ({"type": "tool_search", "execution": "client"}, ClientTool),
        ({"type": "local_shell"}, ClientTool),
        ({"type": "shell"}, ClientTool),
        ({"type": "apply_patch"}, ClientTool),
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
