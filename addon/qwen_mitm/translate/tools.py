"""One table of tools for definitions, history and answer, so that they agree (§4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.definitions import ClientRunTool, ToolKind, definition
from qwen_mitm.translate.report import Report
from qwen_mitm.wire.chat_request import FunctionDefinition
from qwen_mitm.wire.request_tools import (
    ApplyPatchTool,
    CustomTool,
    FunctionTool,
    HostedTool,
    LocalShellTool,
    MemberTool,
    NamespaceTool,
    ShellTool,
    Tool,
    ToolSearchTool,
    UnknownTool,
)
from qwen_mitm.wire.response_object import JsonObject

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME: Final = 64
# Its members are the plain tools; clients name it or leave it out.
_IMPLICIT_NAMESPACE: Final = "functions"


@dataclass(frozen=True, slots=True)
class ToolRoute:
    """What the client calls the tool behind a flat name; a built-in tool is called by its kind."""

    kind: ToolKind
    namespace: str | None
    name: str

    @property
    def has_name(self) -> bool:
        """False for the built-in tools: there is one of each, and their calls name no namespace."""
        return self.kind in ("function", "custom")


class ToolTable:
    """Flat name to route and back, in the order of declaration; ``ToolTable()`` has no tools."""

    def __init__(self) -> None:
        self._routes: dict[str, ToolRoute] = {}
        self._flat: dict[ToolRoute, str] = {}
        self._definitions: dict[str, FunctionDefinition] = {}
        self._permitted: frozenset[str] | None = None
        self._hosted: dict[str, JsonObject] = {}

    @property
    def hosted(self) -> dict[str, JsonObject]:
        """Tools that the host runs itself, by their type."""
        return {name: tool for name, tool in self._hosted.items() if self.permits(name)}

    @property
    def definitions(self) -> tuple[FunctionDefinition, ...]:
        """Of the tools that the model may use."""
        return tuple(made for name, made in self._definitions.items() if self.permits(name))

    @property
    def naming(self) -> tuple[tuple[str | None, ...], ...]:
        """All that decides what calls of the history are called: two tables of one are alike."""
        return tuple((key.kind, key.namespace, key.name, flat) for key, flat in self._flat.items())

    def route(self, flat_name: str) -> ToolRoute:
        """A name that was never offered, which models make up, is a plain function's."""
        return self._routes.get(flat_name) or ToolRoute("function", None, flat_name)

    def permits(self, flat_name: str) -> bool:
        """False for a tool outside the subset of ``allowed_tools``: its calls are suppressed."""
        return self._permitted is None or flat_name in self._permitted

    def flat(self, kind: ToolKind, namespace: str | None, name: str) -> str:
        """The name in Chat; a tool of the history that is no longer offered gets a legal one."""
        known = self.find(kind, namespace, name)
        return known if known is not None else self._unused(ToolRoute(kind, namespace, name))

    def find(self, kind: ToolKind, namespace: str | None, name: str) -> str | None:
        return self._flat.get(_key(ToolRoute(kind, namespace, name)))

    def name_of(self, namespace: str | None, tool: Tool) -> str | None:
        """The name in Chat of a declared tool; None for one that the model was not offered."""
        match tool:
            case FunctionTool() | CustomTool():
                return self.find(tool.type, namespace, tool.name)
            case ToolSearchTool() | LocalShellTool() | ShellTool() | ApplyPatchTool():
                return self.find(tool.type, None, tool.type)
            case _:
                return None

    def members(self, namespace: str) -> list[str]:
        return [flat for flat, route in self._routes.items() if route.namespace == namespace]

    def add(self, namespace: str | None, tool: ClientRunTool) -> bool:
        """False, and no change, when another tool goes by that name already."""
        name = tool.name if isinstance(tool, FunctionTool | CustomTool) else tool.type
        route = ToolRoute(tool.type, namespace, name)
        known = self._flat.get(_key(route))
        if known is not None:
            return self._definitions[known] == definition(tool, known)
        flat = self._unused(route)
        self._flat[_key(route)] = flat
        self._routes[flat] = route
        self._definitions[flat] = definition(tool, flat)
        return True

    def add_hosted(self, name: str, tool: JsonObject) -> None:
        self._hosted[name] = {**tool, "type": name}

    def permit_only(self, flat_names: Iterable[str]) -> None:
        self._permitted = frozenset(flat_names)

    def _unused(self, route: ToolRoute) -> str:
        legal = candidate = _legal(_joined(route))
        count = 1
        while candidate in self._routes:
            count += 1
            suffix = f"_{count}"
            candidate = legal[: _LONGEST_NAME - len(suffix)] + suffix
        return candidate


def offered_tools(
    tools: Iterable[tuple[str, Tool]], report: Report, hosted: Collection[str] = ()
) -> ToolTable:
    """The table of these tools, each with its JSON path; the report has those that are not in it.

    ``hosted`` are the tools that the host runs itself.

    A tool that comes once more, as clients repeat what a search found, is one tool.
    """
    table = ToolTable()
    for where, tool in tools:
        if isinstance(tool, HostedTool) and (name := hosted_name(tool.type)) in hosted:
            table.add_hosted(name, tool.echo())
        elif isinstance(tool, NamespaceTool):
            for position, member in enumerate(tool.tools):
                _offer(member, tool.name, f"{where}.tools[{position}]", table, report)
        else:
            _offer(tool, None, where, table, report)
    return table


def _offer(
    tool: MemberTool, namespace: str | None, where: str, table: ToolTable, report: Report
) -> None:
    match tool:
        case ToolSearchTool(execution="client") | ShellTool(environment=None):
            table.add(namespace, tool)
        case ToolSearchTool() | HostedTool():
            report.add("dropped_tool", tool.type)
        case ShellTool():
            _refuse_container(tool, where)
            table.add(namespace, tool)
        case LocalShellTool() | ApplyPatchTool():
            table.add(namespace, tool)
        case FunctionTool() | CustomTool():
            if not table.add(namespace, tool):
                report.add("duplicate_tool", tool.name)
        case UnknownTool():
            raise InvalidRequest(
                f"Tools of type '{tool.type[:64]}' are not supported. Remove the tool, or declare "
                "it as a function.",
                param=f"{where}.type",
            )
        case _:
            assert_never(tool)


def hosted_name(kind: str) -> str:
    """The type of a hosted tool, without the date that OpenAI's own come with."""
    return "web_search" if kind.startswith("web_search") else kind


def _refuse_container(tool: ShellTool, where: str) -> None:
    environment = tool.environment
    if environment is not None and environment.type != "local":
        raise InvalidRequest(
            f"A shell in an environment of type '{environment.type[:64]}' would run at OpenAI. Use "
            "the environment 'local'.",
            param=f"{where}.environment.type",
        )


def _key(route: ToolRoute) -> ToolRoute:
    if not route.has_name:
        return ToolRoute(route.kind, None, route.kind)
    return ToolRoute(route.kind, _explicit(route.namespace), route.name)


def _explicit(namespace: str | None) -> str | None:
    return None if namespace == _IMPLICIT_NAMESPACE else namespace


def _joined(route: ToolRoute) -> str:
    key = _key(route)
    return key.name if key.namespace is None else f"{key.namespace}__{key.name}"


def _legal(name: str) -> str:
    legal = _ILLEGAL.sub("_", name)
    if len(legal) <= _LONGEST_NAME:
        return legal
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{legal[: _LONGEST_NAME - 9]}_{digest}"
