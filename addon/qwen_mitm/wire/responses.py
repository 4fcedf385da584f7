"""The Responses request, typed (responses-to-chat §3).

A body is parsed once. Unknown fields are kept by name, and unknown keys inside of the known ones
are ignored; an unknown item or tool type becomes an ``UnknownItem`` or ``UnknownTool``, so that
whoever maps it has to decide what becomes of it.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qwen_mitm.wire.configuration import ReasoningConfig, TextConfig
from qwen_mitm.wire.content import Wire
from qwen_mitm.wire.input_items import InputItem
from qwen_mitm.wire.request_faults import first_fault, without_lone_surrogates
from qwen_mitm.wire.request_tools import AnyJson, Tool, ToolChoice

#: Fields that ask for nothing in the answer (§16). It tells the options that were applied to the
#: prompt cache, and here none are.
_HINTS: Final = frozenset({"client_metadata", "prompt_cache_options"})


class StreamOptions(Wire):
    include_obfuscation: bool | None = None


class ResponsesRequest(Wire):
    """``None`` means absent: clients send null for what they leave open."""

    model_config = ConfigDict(extra="allow")

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
    generate: AnyJson = None
    """Of WebSocket mode alone; elsewhere an unknown key."""

    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None

    @property
    def unknown_fields(self) -> list[str]:
        """What the client asks for by fields that are not here; hints excepted."""
        nested = {"reasoning": self.reasoning, "text": self.text}
        return [
            *(name for name in _asked(self) if name not in _HINTS),
            *(f"{outer}.{name}" for outer, part in nested.items() if part for name in _asked(part)),
        ]


def _asked(part: BaseModel) -> list[str]:
    extra = part.model_extra or {}
    return [name for name, value in extra.items() if value not in (None, [], {}, "")]


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
