"""Which tool the model may or must call (responses-to-chat §5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import Wire
from qwen_mitm.translate.definitions import ToolKind
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tools import ToolTable, hosted_name
from qwen_mitm.wire.chat_request import ChatToolChoice, HostedChoice, NamedFunction
from qwen_mitm.wire.request_tools import (
    AllowedTool,
    AllowedTools,
    BuiltInChoice,
    NamedChoice,
    ToolChoice,
)

_NAMED: Final[Mapping[str, ToolKind]] = {"function": "function", "custom": "custom"}
_BUILT_IN: Final[Mapping[str, ToolKind]] = {
    "tool_search": "tool_search",
    "local_shell": "local_shell",
    "shell": "shell",
    "apply_patch": "apply_patch",
}


def chosen_tool(
    choice: ToolChoice | None, table: ToolTable, report: Report, *, wire: Wire = "chat"
) -> ChatToolChoice | None:
    """The Chat form of tool_choice; ``allowed_tools`` narrows what the table permits.

    ``None`` without tools: Chat hosts refuse a tool_choice then (§3). What hosts run themselves is
    a tool on ``/responses`` alone.
    """
    some = table.definitions or (wire == "responses" and table.hosted)
    match choice:
        case None:
            return None
        case "required" if not some:
            raise InvalidRequest(
                "Tool choice 'required' needs at least one tool that this host can use. Offer a "
                "function, or use 'auto'.",
                param="tool_choice",
            )
        case "auto" | "none" | "required":
            return choice if some else None
        case NamedChoice():
            found = table.find(choice.type, choice.namespace, choice.name)
            return NamedFunction(_there(found, choice.name, "tool_choice"))
        case AllowedTools():
            table.permit_only(_allowed(choice.tools, table, report))
            return chosen_tool(choice.mode, table, report, wire=wire)
        case BuiltInChoice() if wire == "responses" and hosted_name(choice.type) in table.hosted:
            return HostedChoice(hosted_name(choice.type))
        case BuiltInChoice():
            return NamedFunction(_built_in(choice, table))
        case _:
            assert_never(choice)


def _built_in(choice: BuiltInChoice, table: ToolTable) -> str:
    kind = _BUILT_IN.get(choice.type)
    found = None if kind is None else table.find(kind, None, kind)
    if kind is not None and kind != "tool_search":
        return _there(found, kind, "tool_choice")
    if found is None:
        raise InvalidRequest(
            f"Tool choice '{choice.type[:64]}' cannot be forced: this host has no such tool. "
            "Choose a function, or use 'auto'.",
            param="tool_choice",
        )
    return found


def _allowed(tools: tuple[AllowedTool, ...], table: ToolTable, report: Report) -> set[str]:
    permitted: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"tool_choice.tools[{index}]"
        if kind := _BUILT_IN.get(tool.type):
            found = table.find(kind, None, kind)
            if found is None and kind == "tool_search":
                report.add("dropped_tool", tool.type)
            else:
                permitted.add(_there(found, kind, where))
        elif hosted_name(tool.type) in table.hosted:
            permitted.add(hosted_name(tool.type))
        elif tool.type not in _NAMED and tool.type != "namespace":
            report.add("dropped_tool", tool.type)
        elif tool.name is None:
            raise InvalidRequest(
                f"Missing required parameter: '{where}.name'.", param=f"{where}.name"
            )
        elif tool.type == "namespace":
            permitted.update(table.members(tool.name))
        else:
            found = table.find(_NAMED[tool.type], tool.namespace, tool.name)
            permitted.add(_there(found, tool.name, where))
    return permitted


def _there(found: str | None, name: str, param: str) -> str:
    if found is None:
        raise InvalidRequest(
            f"Tool choice '{name[:64]}' not found in 'tools' parameter.", param=param
        )
    return found
