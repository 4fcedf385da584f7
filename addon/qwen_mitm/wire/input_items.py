"""The items of a request's input (responses-to-chat §6)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from qwen_mitm.wire.configuration import ReasoningConfig, TextConfig
from qwen_mitm.wire.content import Content, Wire
from qwen_mitm.wire.request_tools import AnyJson, AnyObject, Tool

type Role = Literal["user", "assistant", "system", "developer"]
type CallId = Annotated[str, Field(min_length=1)]


class Message(Wire):
    type: Literal["message"] | None = "message"
    role: Role
    content: Content


class AgentMessagePart(Wire):
    """``encrypted_content`` has no text: only OpenAI can read it."""

    type: Literal["input_text", "output_text", "text", "encrypted_content"]
    text: str = ""


class AgentMessage(Wire):
    """What one of Codex's agents tells another."""

    type: Literal["agent_message"]
    author: str
    content: str | tuple[AgentMessagePart, ...]


class CallItem(Wire):
    """A call of a tool that the client runs."""


class FunctionCall(CallItem):
    type: Literal["function_call"]
    call_id: CallId
    name: str = Field(min_length=1)
    namespace: str | None = None
    arguments: str | None = None


class CustomToolCall(CallItem):
    type: Literal["custom_tool_call"]
    call_id: CallId
    name: str = Field(min_length=1)
    namespace: str | None = None
    input: str


class LocalShellCall(CallItem):
    """Clients that know no ``call_id`` here have the ``id`` in its place."""

    type: Literal["local_shell_call"]
    call_id: CallId | None = None
    id: CallId | None = None
    action: AnyObject


class ShellCall(CallItem):
    type: Literal["shell_call"]
    call_id: CallId
    action: AnyObject


class ApplyPatchCall(CallItem):
    type: Literal["apply_patch_call"]
    call_id: CallId
    operation: AnyObject


class ToolSearchCall(CallItem):
    """Without a ``call_id`` it was OpenAI that searched."""

    type: Literal["tool_search_call"]
    call_id: CallId | None = None
    execution: str | None = None
    arguments: AnyJson = None


class CallOutput(Wire):
    """What became of a call."""


class FunctionCallOutput(CallOutput):
    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: CallId
    output: Content


class LocalShellCallOutput(CallOutput):
    """OpenAI's types have the id of the call in ``id``."""

    type: Literal["local_shell_call_output"]
    call_id: CallId | None = None
    id: CallId | None = None
    output: str


class ShellOutput(Wire):
    stdout: str = ""
    stderr: str = ""
    outcome: AnyObject | None = None


class ShellCallOutput(CallOutput):
    type: Literal["shell_call_output"]
    call_id: CallId
    output: str | tuple[ShellOutput, ...]


class ApplyPatchCallOutput(CallOutput):
    type: Literal["apply_patch_call_output"]
    call_id: CallId
    status: str
    output: str | None = None


class ToolSearchOutput(CallOutput):
    type: Literal["tool_search_output"]
    call_id: CallId | None = None
    execution: str | None = None
    tools: tuple[Tool, ...]


class AdditionalTools(Wire):
    type: Literal["additional_tools"]
    tools: tuple[Tool, ...]


class ConfigurationUpdate(Wire):
    type: Literal["configuration_update"]
    reasoning: ReasoningConfig | None = None
    text: TextConfig | None = None


class ThoughtPart(Wire):
    text: str


class Reasoning(Wire):
    type: Literal["reasoning"]
    summary: tuple[ThoughtPart, ...] | None = None
    content: tuple[ThoughtPart, ...] | None = None
    encrypted_content: str | None = None


class HostedReceipt(Wire):
    """What a tool that OpenAI runs left in the history."""

    type: str


class ItemReference(Wire):
    type: Literal["item_reference"] | None = "item_reference"
    id: str


class Compaction(Wire):
    type: Literal["compaction", "compaction_summary", "context_compaction"]
    encrypted_content: str | None = None


class CompactionTrigger(Wire):
    type: Literal["compaction_trigger"]


class UnknownItem(Wire):
    type: str


_HOSTED_RECEIPTS: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_list_tools",
        "mcp_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "computer_call",
        "computer_call_output",
        "program",
        "program_output",
    }
)
_OWN_TAGS: Final = (
    "message",
    "agent_message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "tool_search_call",
    "tool_search_output",
    "additional_tools",
    "configuration_update",
    "reasoning",
    "item_reference",
    "compaction",
    "compaction_trigger",
)
_ITEM_TAGS: Final = {
    **{kind: f"<{kind}>" for kind in _OWN_TAGS},
    "custom_tool_call_output": "<function_call_output>",
    "compaction_summary": "<compaction>",
    "context_compaction": "<compaction>",
    **dict.fromkeys(_HOSTED_RECEIPTS, "<receipt>"),
}


def _item_tag(item: object) -> str | None:
    """The easy forms have no ``type``: a message with its role, a reference with its id."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if kind is None and "role" in item:
        return "<message>"
    if kind is None and "id" in item:
        return "<item_reference>"
    return _ITEM_TAGS.get(kind, "<unknown>") if isinstance(kind, str) else "<unknown>"


type InputItem = Annotated[
    Annotated[Message, Tag("<message>")]
    | Annotated[AgentMessage, Tag("<agent_message>")]
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[FunctionCallOutput, Tag("<function_call_output>")]
    | Annotated[CustomToolCall, Tag("<custom_tool_call>")]
    | Annotated[LocalShellCall, Tag("<local_shell_call>")]
    | Annotated[LocalShellCallOutput, Tag("<local_shell_call_output>")]
    | Annotated[ShellCall, Tag("<shell_call>")]
    | Annotated[ShellCallOutput, Tag("<shell_call_output>")]
    | Annotated[ApplyPatchCall, Tag("<apply_patch_call>")]
    | Annotated[ApplyPatchCallOutput, Tag("<apply_patch_call_output>")]
    | Annotated[ToolSearchCall, Tag("<tool_search_call>")]
    | Annotated[ToolSearchOutput, Tag("<tool_search_output>")]
    | Annotated[AdditionalTools, Tag("<additional_tools>")]
    | Annotated[ConfigurationUpdate, Tag("<configuration_update>")]
    | Annotated[Reasoning, Tag("<reasoning>")]
    | Annotated[HostedReceipt, Tag("<receipt>")]
    | Annotated[ItemReference, Tag("<item_reference>")]
    | Annotated[Compaction, Tag("<compaction>")]
    | Annotated[CompactionTrigger, Tag("<compaction_trigger>")]
    | Annotated[UnknownItem, Tag("<unknown>")],
    Discriminator(_item_tag),
]
