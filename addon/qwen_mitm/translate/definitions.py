"""Each kind of tool that a client runs, as a Chat function (responses-to-chat §4)."""

from __future__ import annotations

from typing import Final, Literal, assert_never

from pydantic import JsonValue

from qwen_mitm.wire.chat_request import FunctionDefinition
from qwen_mitm.wire.request_tools import (
    ApplyPatchTool,
    CustomTool,
    FunctionTool,
    Grammar,
    LocalShellTool,
    ShellTool,
    ToolSearchTool,
)
from qwen_mitm.wire.response_object import JsonObject

type ToolKind = Literal["function", "custom", "tool_search", "local_shell", "shell", "apply_patch"]
type ClientRunTool = (
    FunctionTool | CustomTool | ToolSearchTool | LocalShellTool | ShellTool | ApplyPatchTool
)

_TEXTS: Final[JsonObject] = {"type": "array", "items": {"type": "string"}}
_MILLISECONDS: Final[JsonObject] = {"type": "integer", "description": "Time limit."}

_LOCAL_SHELL: Final[JsonObject] = {
    "command": {**_TEXTS, "description": "The program and its arguments."},
    "working_directory": {"type": "string"},
    "timeout_ms": _MILLISECONDS,
}
_SHELL: Final[JsonObject] = {
    "commands": {**_TEXTS, "description": "Shell commands, run one after the other."},
    "timeout_ms": _MILLISECONDS,
    "max_output_length": {"type": "integer", "description": "Characters of output to keep."},
}
_APPLY_PATCH: Final[JsonObject] = {
    "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
    "path": {"type": "string"},
    "diff": {"type": "string", "description": "Not for delete_file."},
}
# Models other than OpenAI's were not trained on this form of a diff.
_PATCH_DESCRIPTION: Final = """\
Create, update or delete one file.
The diff of create_file is the whole file, each line preceded by "+".
The diff of update_file has sections that begin with a line "@@", or "@@ " and a line of the file \
above the change, such as the head of a function. In a section, lines that stay are preceded by a \
space, removed lines by "-", added lines by "+"; keep three lines around each change. There are no \
line numbers and no file names in a diff."""


def definition(tool: ClientRunTool, name: str) -> FunctionDefinition:
    """The function that stands for the tool under this name."""
    match tool:
        case FunctionTool():
            parameters = tool.parameters or _object({}, required=None)
            return FunctionDefinition(
                name=name, description=tool.description, parameters=parameters, strict=tool.strict
            )
        case CustomTool():
            return FunctionDefinition(
                name=name, description=_freeform(tool), parameters=_freeform_parameters()
            )
        case ToolSearchTool():
            return FunctionDefinition(
                name=name,
                description=tool.description or "Find more tools, which can be called then.",
                parameters=tool.parameters or _object({"query": {"type": "string"}}, ["query"]),
            )
        case LocalShellTool():
            description = "Run a command on the user's computer."
            parameters = _object(_LOCAL_SHELL, ["command"])
        case ShellTool():
            description = "Run shell commands on the user's computer."
            parameters = _object(_SHELL, ["commands"])
        case ApplyPatchTool():
            description = _PATCH_DESCRIPTION
            parameters = _object(_APPLY_PATCH, ["type", "path"])
        case _:
            assert_never(tool)
    return FunctionDefinition(name=name, description=description, parameters=parameters)


def _object(properties: JsonObject, required: list[str] | None) -> JsonObject:
    schema: JsonObject = {"type": "object", "properties": properties}
    if required is not None:
        names: list[JsonValue] = [*required]
        schema |= {"required": names, "additionalProperties": False}
    return schema


def _freeform(tool: CustomTool) -> str:
    """Clients tell the model to write plain text: here it has to go into ``input``."""
    texts = [tool.description] if tool.description else []
    texts.append("Put the whole text of the call into `input`, as one string.")
    if isinstance(tool.format, Grammar):
        grammar = tool.format
        texts.append(f"It must match this {grammar.syntax} grammar:\n{grammar.definition}")
    return "\n\n".join(texts)


def _freeform_parameters() -> JsonObject:
    return _object({"input": {"type": "string"}}, ["input"])
