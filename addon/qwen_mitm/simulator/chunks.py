"""An answer as Chat Completions: whole, or in chunks, each with its quirks (qwen.md 2.10)."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from .answers import Answer, pieces
from .rules import Body

# Chunks are made ill-formed on purpose, so no type says more than this.
type Chunk = dict[str, Any]
type Shaper = Callable[[list[Chunk]], list[Chunk]]

_FRAGMENT = 12


def completion(answer: Answer, model: str) -> Chunk:
    """The document of an answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.calls:
        message["tool_calls"] = [
            {"index": i, "id": c.id, "type": "function", "function": _function(c.name, c.arguments)}
            for i, c in enumerate(answer.calls)
        ]
    choice = {"message": message, "finish_reason": answer.finish_reason, "index": 0}
    return {
        "choices": [choice | {"logprobs": None}],
        "object": "chat.completion",
        "usage": answer.usage(),
        "created": int(time.time()),
        "system_fingerprint": None,
        "model": model,
        "id": f"chatcmpl-{uuid.uuid4()}",
    }


def chunks(answer: Answer, body: Body) -> list[Chunk]:
    """The chunks of a well-behaved Model Studio stream."""
    base = {
        "choices": [],
        "object": "chat.completion.chunk",
        "usage": None,
        "created": int(time.time()),
        "system_fingerprint": None,
        "model": body["model"],
        "id": f"chatcmpl-{uuid.uuid4()}",
    }

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Chunk:
        choice = {"delta": delta, "finish_reason": finish_reason, "index": 0, "logprobs": None}
        return base | {"choices": [choice]}

    result = [chunk(delta) for delta in _deltas(answer)]
    if answer.finish_reason is not None:
        result.append(chunk({"content": ""}, answer.finish_reason))
    if body.get("logprobs"):
        _add_logprobs(result)
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        result.append(usage_chunk(base, answer.usage()))
    return result


def usage_chunk(like: Chunk, usage: dict[str, Any]) -> Chunk:
    return like | {"choices": [], "usage": usage}


def _deltas(answer: Answer) -> Iterable[dict[str, Any]]:
    yield {"content": None if answer.calls or answer.reasoning else "", "role": "assistant"}
    for piece in pieces(answer.reasoning):
        yield {"content": None, "reasoning_content": piece}
    for piece in pieces(answer.text):
        yield {"content": piece}
    for piece in pieces(answer.refusal):
        yield {"refusal": piece}
    for index, call in enumerate(answer.calls):
        head = {"index": index, "id": call.id, "type": "function"}
        yield {"tool_calls": [head | {"function": _function(call.name, "")}]}
        for start in range(0, len(call.arguments), _FRAGMENT):
            fragment = call.arguments[start : start + _FRAGMENT]
            tail = {"index": index, "function": {"arguments": fragment}}
            yield {"tool_calls": [tail]}


def _function(name: str, arguments: str) -> dict[str, str]:
    return {"name": name, "arguments": arguments}


def _add_logprobs(stream: list[Chunk]) -> None:
    for choice in choices(stream):
        if piece := choice["delta"].get("content"):
            token = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
            choice["logprobs"] = {"content": [token | {"top_logprobs": []}]}


def choices(stream: Iterable[Chunk]) -> Iterable[dict[str, Any]]:
    for chunk in stream:
        yield from chunk["choices"]


def deltas(stream: Iterable[Chunk]) -> Iterable[dict[str, Any]]:
    for choice in choices(stream):
        yield choice["delta"]


def tool_deltas(stream: Iterable[Chunk]) -> Iterable[dict[str, Any]]:
    for delta in deltas(stream):
        yield from delta.get("tool_calls") or ()


def carries(chunk: Chunk, *keys: str) -> bool:
    """Whether the chunk's delta has something under one of the keys."""
    return any(delta.get(key) for delta in deltas([chunk]) for key in keys)


def twin(chunk: Chunk) -> Chunk:
    return copy.deepcopy(chunk)
