"""The Response object: all the keys of responses-to-chat §7.1, always."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

type JsonObject = dict[str, JsonValue]

type ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


def _no_reasoning() -> JsonObject:
    return {"effort": None, "summary": None}


def _plain_text() -> JsonObject:
    return {"format": {"type": "text"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseEcho:
    """What the Response object repeats of the request, with the defaults of §7.1 applied."""

    model: str
    instructions: JsonValue = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: JsonObject = field(default_factory=_no_reasoning)
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool = True
    temperature: float = 1.0
    text: JsonObject = field(default_factory=_plain_text)
    tool_choice: JsonValue = "auto"
    tools: list[JsonValue] = field(default_factory=list)
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: str = "disabled"
    presence_penalty: float = 0
    frequency_penalty: float = 0
    user: str | None = None
    hints: JsonObject = field(default_factory=dict)
    """What is there only if the request had it."""

    def constant_part(self) -> JsonObject:
        """The keys that are the same in every snapshot of one response."""
        metadata: JsonObject = {**self.metadata}
        return {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": metadata,
            "model": self.model,
            "parallel_tool_calls": self.parallel_tool_calls,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": self.reasoning,
            "safety_identifier": self.safety_identifier,
            "store": self.store,
            "temperature": self.temperature,
            "text": self.text,
            "tool_choice": self.tool_choice,
            "tools": self.tools,
            "top_logprobs": self.top_logprobs,
            "top_p": self.top_p,
            "truncation": self.truncation,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "user": self.user,
            **self.hints,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The keys of a Response object that change while it is made; ``service_tier`` among them.

    The upstream says which tier it used only in its answer.
    """

    id: str
    created_at: int
    service_tier: str
    status: ResponseStatus = "in_progress"
    completed_at: int | None = None
    error: JsonObject | None = None
    incomplete_details: JsonObject | None = None
    output: list[JsonObject] = field(default_factory=list)
    usage: JsonObject | None = None

    def variable_part(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "status": self.status,
            "error": self.error,
            "incomplete_details": self.incomplete_details,
            "output": [*self.output],
            "usage": self.usage,
            "service_tier": self.service_tier,
        }
