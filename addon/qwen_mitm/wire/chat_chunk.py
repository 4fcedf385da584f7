"""The models of a Chat Completions chunk and of a whole completion, as hosts really send them.

Fields that hosts fill wrongly and that nothing depends on read as absent; where reading on would
lose a part of the answer, the chunk does not validate.
"""

from __future__ import annotations

import json
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
)


def _absent(_: object) -> None:
    return None


def _zero(_: object) -> int:
    return 0


def _empty_if_null(value: object) -> object:
    return () if value is None else value


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _joined_parts(value: object) -> object:
    """A list of text parts as one text; another part would be lost, so the chunk does not fit."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        match part:
            case str(text) | {"text": str(text)}:
                texts.append(text)
            case _:
                raise ValueError("not a text part")
    return "".join(texts)


# Members are tried in order: the usual ones cost nothing, the last ones a call into Python.
_Ordered: Final = Field(union_mode="left_to_right")
_Anything = Annotated[None, BeforeValidator(_absent)]
_Word = Annotated[Annotated[str, Field(min_length=1)] | _Anything | None, _Ordered]
_Index = Annotated[Annotated[int, Field(ge=0)] | _Anything | None, _Ordered]
_Text = Annotated[str | Annotated[str, BeforeValidator(_joined_parts)] | None, _Ordered]
_JsonText = Annotated[str | Annotated[str, BeforeValidator(_json_text)] | None, _Ordered]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)


class ToolCallDelta(_Wire):
    """A fragment of a call; an ``id`` or ``name`` that a host restates as "" is None."""

    index: _Index = None
    id: _Word = None
    name: _Word = Field(default=None, validation_alias=AliasPath("function", "name"))
    arguments: _JsonText = Field(default=None, validation_alias=AliasPath("function", "arguments"))


def _call_zero(function: object) -> object:
    return {"index": 0, "function": function} if isinstance(function, dict) else function


_Calls = Annotated[
    tuple[ToolCallDelta, ...] | Annotated[tuple[()], BeforeValidator(_empty_if_null)], _Ordered
]


class Delta(_Wire):
    """What one chunk adds to the answer."""

    role: _Word = None
    content: _Text = None
    reasoning_content: _Text = None
    reasoning_text: _Text = Field(default=None, alias="reasoning")
    refusal: _Text = None
    calls: _Calls = Field(default=(), alias="tool_calls")
    function_call: Annotated[ToolCallDelta, BeforeValidator(_call_zero)] | None = None

    @property
    def reasoning(self) -> str | None:
        """Either field: hosts that send both send the same text twice (responses-to-chat §7.4)."""
        return self.reasoning_content or self.reasoning_text or None

    @property
    def tool_calls(self) -> tuple[ToolCallDelta, ...]:
        """The fragments, with a legacy ``function_call`` as call 0."""
        if self.function_call is None:
            return self.calls
        return (*self.calls, self.function_call)


def _numbered(message: Delta) -> Delta:
    calls = [
        call.model_copy(update={"index": position}) for position, call in enumerate(message.calls)
    ]
    return message.model_copy(update={"calls": tuple(calls)})


class TopLogprob(_Wire):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class Logprob(TopLogprob):
    top_logprobs: Annotated[
        tuple[TopLogprob, ...] | Annotated[tuple[()], BeforeValidator(_empty_if_null)], _Ordered
    ] = ()


class Logprobs(_Wire):
    content: tuple[Logprob, ...] | None = None
    refusal: tuple[Logprob, ...] | None = None


_EMPTY: Final = Delta()


class Choice(_Wire):
    """One alternative; only the one with index 0 is an answer."""

    index: _Index = None
    chunk_delta: Delta | None = Field(default=None, alias="delta")
    message: Annotated[Delta, AfterValidator(_numbered)] | None = None
    finish_reason: _Word = None
    logprobs: Annotated[Logprobs | _Anything | None, _Ordered] = None

    @property
    def delta(self) -> Delta:
        """The delta, or the whole message where a host sends that instead."""
        return self.chunk_delta or self.message or _EMPTY


_Tokens = Annotated[
    # Beyond 2**53 other readers of JSON lose digits; no count is that large.
    Annotated[int, Field(ge=0, le=2**53)] | Annotated[int, BeforeValidator(_zero)],
    _Ordered,
]


class Usage(_Wire):
    """Token counts from any of the variants of qwen.md §2.10 (11); the total is their sum."""

    prompt_tokens: _Tokens = Field(
        default=0, validation_alias=AliasChoices("prompt_tokens", "input_tokens")
    )
    completion_tokens: _Tokens = Field(
        default=0, validation_alias=AliasChoices("completion_tokens", "output_tokens")
    )
    total_tokens: _Tokens = 0
    cached_tokens: _Tokens = Field(
        default=0,
        validation_alias=AliasChoices(
            AliasPath("prompt_tokens_details", "cached_tokens"),
            AliasPath("input_tokens_details", "cached_tokens"),
            "cached_tokens",
        ),
    )
    reasoning_tokens: _Tokens = Field(
        default=0,
        validation_alias=AliasChoices(
            AliasPath("completion_tokens_details", "reasoning_tokens"),
            AliasPath("output_tokens_details", "reasoning_tokens"),
            "reasoning_tokens",
        ),
    )


def _complete(usage: Usage) -> Usage:
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if not (prompt or completion or total):
        raise ValueError("no usage")
    if not prompt:
        # Some hosts only give the total; then all of it counts as input.
        prompt = max(total - completion, 0)
    elif not completion:
        completion = max(total - prompt, 0)
    if (prompt, completion, prompt + completion) == (
        usage.prompt_tokens,
        usage.completion_tokens,
        total,
    ):
        return usage
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


CountedUsage = Annotated[Annotated[Usage, AfterValidator(_complete)] | _Anything | None, _Ordered]
"""None also where every number is zero: that is how hosts write that they did not count."""


class ChatChunk(_Wire):
    """One chunk of a stream, or a whole completion."""

    choices: Annotated[
        tuple[Choice, ...] | Annotated[tuple[()], BeforeValidator(_empty_if_null)], _Ordered
    ] = ()
    usage: CountedUsage = None
    model: _Word = None
    service_tier: _Word = None
    object_type: _Word = Field(default=None, alias="object")
    error: JsonValue = None

    @property
    def choice(self) -> Choice | None:
        """The answer: the choice with index 0, which is also what a missing index means."""
        for choice in self.choices:
            if not choice.index:
                return choice
        return None
