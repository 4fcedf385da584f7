"""The Chat Completions request as the translation makes it: no host's dialect in it yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qwen_mitm.wire.configuration import Effort
from qwen_mitm.wire.response_object import JsonObject


@dataclass(frozen=True, slots=True)
class ChatText:
    text: str


@dataclass(frozen=True, slots=True)
class ChatImage:
    url: str
    detail: Literal["low", "high", "auto"] | None = None


@dataclass(frozen=True, slots=True)
class ChatFile:
    file_data: str
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class ChatAudio:
    input_audio: JsonObject


type ChatPart = ChatText | ChatImage | ChatFile | ChatAudio


@dataclass(frozen=True, slots=True)
class UserMessage:
    content: tuple[ChatPart, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """As the client sent it: not always JSON."""


@dataclass(frozen=True, slots=True)
class EncryptedThought:
    """A thought that only the host it came from can read, and what may be read of it."""

    summary: str
    encrypted_content: str


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    encrypted: tuple[EncryptedThought, ...] = ()
    """Only a host that speaks Responses has any."""


@dataclass(frozen=True, slots=True)
class ToolMessage:
    tool_call_id: str
    content: str


type ChatMessage = UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDefinition:
    name: str
    description: str | None
    parameters: JsonObject
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """tool_choice: this function and no other."""

    name: str


@dataclass(frozen=True, slots=True)
class HostedChoice:
    """tool_choice: this tool of the host's own, which only ``/responses`` can be told."""

    type: str


type ChatToolChoice = Literal["auto", "none", "required"] | NamedFunction | HostedChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """``None`` and empty mean absent: nothing is sent for them."""

    model: str
    system: str | None
    messages: tuple[ChatMessage, ...]
    tools: tuple[FunctionDefinition, ...] = ()
    hosted_tools: tuple[JsonObject, ...] = ()
    """Tools that the host runs itself, as the client declared them."""
    tool_choice: ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    response_format: JsonObject | None = None
    effort: Effort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_summary: str | None = None


def texts_of(message: ChatMessage) -> Iterator[str]:
    """Every text of it that the model reads."""
    match message:
        case UserMessage(content):
            yield from (part.text for part in content if isinstance(part, ChatText))
        case AssistantMessage(content, reasoning, calls):
            yield content
            yield reasoning or ""
            yield from (call.arguments for call in calls)
        case ToolMessage(_, content):
            yield content
