"""One table of tools for definitions, history and answer, so that they agree (§4, §5)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.report import Report
from qwen_mitm.wire.chat_request import ChatToolChoice, FunctionDefinition, NamedFunction
from qwen_mitm.wire.request_tools import (
    AllowedTool,
    AllowedTools,
    BuiltInChoice,
    ClientTool,
    ClientToolType,
    FunctionTool,
    HostedTool,
    MemberTool,
    NamedChoice,
    NamespaceTool,
    Tool,
    ToolChoice,
    UnknownTool,
)

type ToolKind = Literal["function"] | ClientToolType

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME: Final = 64
# Its members are the plain functions; clients name it or leave it out.
_IMPLICIT_NAMESPACE: Final = "functions"


@dataclass(frozen=True, slots=True)
class ToolRoute:
    """What the client calls the tool behind a flat name."""

    kind: ToolKind
    namespace: str | None
    name: str


class ToolTable:
    """Flat name to route and back, in the order of declaration; ``ToolTable()`` has no tools."""

    def __init__(self) -> None:
        self._routes: dict[str, ToolRoute] = {}
        self._flat: dict[tuple[str | None, str], str] = {}
        self._definitions: dict[str, FunctionDefinition] = {}
        self._permitted: frozenset[str] | None = None

    @property
    def definitions(self) -> tuple[FunctionDefinition, ...]:
        """Of the tools that the model may use."""
        return tuple(
            definition for name, definition in self._definitions.items() if self.permits(name)
        )

    def route(self, flat_name: str) -> ToolRoute:
        """A name that was never offered, which models make up, is a plain function's."""
        return self._routes.get(flat_name) or ToolRoute("function", None, flat_name)

    def permits(self, flat_name: str) -> bool:
        """False for a tool outside the subset of ``allowed_tools``: its calls are suppressed."""
        return self._permitted is None or flat_name in self._permitted

    def flat(self, namespace: str | None, name: str) -> str:
        """The name in Chat; a tool of the history that is no longer offered gets a legal one."""
        known = self.find(namespace, name)
        return known if known is not None else self._unused(_joined(namespace, name))

    def find(self, namespace: str | None, name: str) -> str | None:
        return self._flat.get((_explicit(namespace), name))

    def members(self, namespace: str) -> list[str]:
        return [flat for flat, route in self._routes.items() if route.namespace == namespace]

    def add(self, namespace: str | None, tool: FunctionTool) -> bool:
        """False, and no change, when a tool of that name is there already."""
        key = (_explicit(namespace), tool.name)
        if key in self._flat:
            return False
        flat = self._unused(_joined(namespace, tool.name))
        self._flat[key] = flat
        self._routes[flat] = ToolRoute("function", namespace, tool.name)
        self._definitions[flat] = FunctionDefinition(
            name=flat,
            description=tool.description,
            parameters=tool.parameters or {"type": "object", "properties": {}},
            strict=tool.strict,
        )
        return True

    def permit_only(self, flat_names: Iterable[str]) -> None:
        self._permitted = frozenset(flat_names)

    def _unused(self, name: str) -> str:
        legal = candidate = _legal(name)
        count = 1
        while candidate in self._routes:
            count += 1
            suffix = f"_{count}"
            candidate = legal[: _LONGEST_NAME - len(suffix)] + suffix
        return candidate


def offered_tools(tools: Iterable[Tool], report: Report) -> ToolTable:
    """The table of a request; what the model cannot be offered is in the report."""
    table = ToolTable()
    for index, tool in enumerate(tools):
        if isinstance(tool, NamespaceTool):
            for position, member in enumerate(tool.tools):
                where = f"tools[{index}].tools[{position}]"
                _offer(member, tool.name, where, table, report)
        else:
            _offer(tool, None, f"tools[{index}]", table, report)
    return table


def _offer(
    tool: MemberTool, namespace: str | None, where: str, table: ToolTable, report: Report
) -> None:
    match tool:
        case FunctionTool():
            if not table.add(namespace, tool):
                report.add("duplicate_tool", tool.name)
        case ClientTool() | HostedTool():
            report.add("dropped_tool", tool.type)
        case UnknownTool():
            raise InvalidRequest(
                f"Tools of type '{tool.type[:64]}' are not supported. Remove the tool, or declare "
                "it as a function.",
                param=f"{where}.type",
            )
        case _:
            assert_never(tool)


def chosen_tool(
    choice: ToolChoice | None, table: ToolTable, report: Report
) -> ChatToolChoice | None:
    """The Chat form of tool_choice; ``allowed_tools`` narrows what the table permits.

    ``None`` without tools: Chat hosts refuse a tool_choice then (§3).
    """
    match choice:
        case None:
            return None
        case "required" if not table.definitions:
            raise InvalidRequest(
                "Tool choice 'required' needs at least one tool that this host can use. Offer a "
                "function, or use 'auto'.",
                param="tool_choice",
            )
        case "auto" | "none" | "required":
            return choice if table.definitions else None
        case NamedChoice():
            flat = table.find(choice.namespace, choice.name)
            if flat is None or table.route(flat).kind != choice.type:
                raise _not_found(choice.name, "tool_choice")
            return NamedFunction(flat)
        case AllowedTools():
            table.permit_only(_allowed(choice.tools, table, report))
            return chosen_tool(choice.mode, table, report)
        case BuiltInChoice():
            raise InvalidRequest(
                f"Tool choice '{choice.type[:64]}' cannot be forced: this host has no such tool. "
                "Choose a function, or use 'auto'.",
                param="tool_choice",
            )
        case _:
            assert_never(choice)


def _allowed(tools: tuple[AllowedTool, ...], table: ToolTable, report: Report) -> set[str]:
    permitted: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"tool_choice.tools[{index}]"
        if tool.type not in {"function", "namespace"}:
            report.add("dropped_tool", tool.type)
        elif tool.name is None:
            raise InvalidRequest(
                f"Missing required parameter: '{where}.name'.", param=f"{where}.name"
            )
        elif tool.type == "namespace":
            permitted.update(table.members(tool.name))
        else:
            flat = table.find(tool.namespace, tool.name)
            if flat is None:
                raise _not_found(tool.name, where)
            permitted.add(flat)
    return permitted


def _not_found(name: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"Tool choice '{name[:64]}' not found in 'tools' parameter.", param=param)


def _explicit(namespace: str | None) -> str | None:
    return None if namespace == _IMPLICIT_NAMESPACE else namespace


def _joined(namespace: str | None, name: str) -> str:
    outer = _explicit(namespace)
    return name if outer is None else f"{outer}__{name}"


def _legal(name: str) -> str:
    legal = _ILLEGAL.sub("_", name)
    if len(legal) <= _LONGEST_NAME:
        return legal
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{legal[: _LONGEST_NAME - 9]}_{digest}"
