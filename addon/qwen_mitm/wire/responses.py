"""The Responses request, typed: fields, input items, content parts (responses-to-chat §3, §6).

A body is parsed once. Unknown keys are ignored; an unknown item or tool type becomes an
``UnknownItem`` or ``UnknownTool``, so that whoever maps it has to decide what becomes of it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)

from qwen_mitm.wire.request_faults import first_fault, without_lone_surrogates
from qwen_mitm.wire.request_tools import AnyJson, AnyObject, Echoed, Tool, ToolChoice


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(Wire):
    type: Literal["input_text", "output_text", "text"]
    text: str


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: str


class ImagePart(Wire):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None


class FilePart(Wire):
    type: Literal["input_file"]
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None


class AudioPart(Wire):
    type: Literal["input_audio"]
    input_audio: AnyObject


type ContentPart = Annotated[
    TextPart | ImagePart | FilePart | AudioPart | RefusalPart, Field(discriminator="type")
]
type Content = str | tuple[ContentPart, ...]
type Role = Literal["user", "assistant", "system", "developer"]


class Message(Wire):
    type: Literal["message"] | None = "message"
    role: Role
    content: Content


class FunctionCall(Wire):
    type: Literal["function_call"]
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    namespace: str | None = None
    arguments: str | None = None


class FunctionCallOutput(Wire):
    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1)
    output: Content


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
    type: Literal["compaction", "compaction_summary", "compaction_trigger"]


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
_ITEM_TAGS: Final = {
    "message": "<message>",
    "function_call": "<function_call>",
    "function_call_output": "<function_call_output>",
    "reasoning": "<reasoning>",
    "item_reference": "<item_reference>",
    "compaction": "<compaction>",
    "compaction_summary": "<compaction>",
    "compaction_trigger": "<compaction>",
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
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[FunctionCallOutput, Tag("<function_call_output>")]
    | Annotated[Reasoning, Tag("<reasoning>")]
    | Annotated[HostedReceipt, Tag("<receipt>")]
    | Annotated[ItemReference, Tag("<item_reference>")]
    | Annotated[Compaction, Tag("<compaction>")]
    | Annotated[UnknownItem, Tag("<unknown>")],
    Discriminator(_item_tag),
]


type Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]


class ReasoningConfig(Wire):
    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class PlainFormat(Echoed):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(Echoed):
    type: Literal["json_schema"]
    name: str = Field(min_length=1)
    schema_: AnyObject = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(Echoed):
    format: Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(Wire):
    include_obfuscation: bool | None = None


class ResponsesRequest(Wire):
    """``None`` means absent: clients send null for what they leave open."""

    model: str | None = Field(None, min_length=1)
    input: str | tuple[InputItem, ...] | None = None
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    tools: tuple[Tool, ...] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None

    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: tuple[str, ...] | None = None

    store: bool | None = None
    previous_response_id: str | None = None
    conversation: AnyJson = None
    prompt: AnyJson = None
    background: bool | None = None

    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


def parse_request(body: bytes) -> ResponsesRequest:
    """The request in a decoded body; ``InvalidRequest`` names the first field that is wrong."""
    try:
        return ResponsesRequest.model_validate_json(body)
    except ValidationError as error:
        first = error
    # JavaScript clients cut texts in the middle of an emoji and send the half as an escape.
    repaired = without_lone_surrogates(body)
    if repaired != body:
        try:
            return ResponsesRequest.model_validate_json(repaired)
        except ValidationError as error:
            first = error
    raise first_fault(first, repaired) from None
