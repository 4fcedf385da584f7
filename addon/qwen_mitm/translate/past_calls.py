"""Calls of the history and what became of them, as the model would have seen them (§6, 4 and 5).

A call has the arguments that the tool's definition asks for, whatever its item looks like.
"""

from __future__ import annotations

from typing import assert_never

from pydantic import JsonValue
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat_request import ToolCall
from qwen_mitm.wire.input_items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    CustomToolCall,
    FunctionCall,
    LocalShellCall,
    LocalShellCallOutput,
    ShellCall,
    ShellCallOutput,
    ToolSearchCall,
    ToolSearchOutput,
)
from qwen_mitm.wire.request_tools import NamespaceTool
from qwen_mitm.wire.response_object import JsonObject

type PastCall = (
    FunctionCall | CustomToolCall | LocalShellCall | ShellCall | ApplyPatchCall | ToolSearchCall
)
type BuiltInOutput = (
    LocalShellCallOutput | ShellCallOutput | ApplyPatchCallOutput | ToolSearchOutput
)


def past_call(item: PastCall, index: int, tools: ToolTable) -> ToolCall:
    """The call of this item; ``index`` is its place in the input."""
    call_id = call_id_of(item, index)
    match item:
        case FunctionCall():
            arguments = item.arguments if item.arguments and not item.arguments.isspace() else "{}"
            return ToolCall(call_id, tools.flat("function", item.namespace, item.name), arguments)
        case CustomToolCall():
            name = tools.flat("custom", item.namespace, item.name)
            return ToolCall(call_id, name, _json({"input": item.input}))
        case LocalShellCall():
            name = tools.flat("local_shell", None, "local_shell")
            return ToolCall(call_id, name, _json(_given(item.action)))
        case ShellCall():
            return ToolCall(call_id, tools.flat("shell", None, "shell"), _json(_given(item.action)))
        case ApplyPatchCall():
            name = tools.flat("apply_patch", None, "apply_patch")
            return ToolCall(call_id, name, _json(item.operation))
        case ToolSearchCall():
            name = tools.flat("tool_search", None, "tool_search")
            searched = item.arguments
            arguments = searched if isinstance(searched, str) else _json(searched or {})
            return ToolCall(call_id, name, arguments)
        case _:
            assert_never(item)


def past_output(item: BuiltInOutput, tools: ToolTable) -> str:
    """What the model reads of the output of a built-in tool."""
    match item:
        case LocalShellCallOutput():
            return item.output
        case ShellCallOutput():
            if isinstance(item.output, str):
                return item.output
            return to_json(item.output, exclude_none=True).decode()
        case ApplyPatchCallOutput():
            return f"{item.status}: {item.output}" if item.output else item.status
        case ToolSearchOutput():
            names = _found(item, tools)
            return f"Tools found: {', '.join(names)}" if names else "No tools found."
        case _:
            assert_never(item)


def call_id_of(item: PastCall | BuiltInOutput, index: int) -> str:
    known = item.call_id
    if known is None and isinstance(item, LocalShellCall | LocalShellCallOutput):
        known = item.id
    if known is None:
        where = f"input[{index}].call_id"
        raise InvalidRequest(f"Missing required parameter: '{where}'.", param=where)
    return known


def is_of_the_server(item: object) -> bool:
    """Whether OpenAI searched for tools here, not the client."""
    if not isinstance(item, ToolSearchCall | ToolSearchOutput):
        return False
    return item.call_id is None or item.execution == "server"


def _found(item: ToolSearchOutput, tools: ToolTable) -> list[str]:
    names: dict[str, None] = {}
    for tool in item.tools:
        members = tool.tools if isinstance(tool, NamespaceTool) else (tool,)
        namespace = tool.name if isinstance(tool, NamespaceTool) else None
        for member in members:
            flat = tools.name_of(namespace, member)
            if flat is not None:
                names[flat] = None
    return list(names)


def _given(action: JsonObject) -> JsonObject:
    """The fields that the definition has too, as far as the client filled them in."""
    return {
        key: value for key, value in action.items() if key != "type" and value not in (None, {})
    }


def _json(value: JsonValue) -> str:
    return to_json(value).decode()
