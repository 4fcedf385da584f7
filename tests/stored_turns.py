"""Turns to store, and a store that has nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import JsonValue

from qwen_mitm.state import Expansion, expand
from qwen_mitm.stored_response import ResponseStore, StoredResponse, encoded
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import parse_request


def user(text: str) -> JsonObject:
    return {"type": "message", "role": "user", "content": text}


def says(text: str, item_id: str) -> JsonObject:
    part: JsonObject = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": item_id,
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def calls(call_id: str, item_id: str, *, status: str = "completed") -> JsonObject:
    return {
        "type": "function_call",
        "id": item_id,
        "call_id": call_id,
        "name": "look",
        "arguments": '{"at":"it"}',
        "status": status,
    }


def thinks(text: str, item_id: str) -> JsonObject:
    part: JsonObject = {"type": "summary_text", "text": text}
    return {"type": "reasoning", "id": item_id, "summary": [part], "status": "completed"}


def call_output(call_id: str, text: str) -> JsonObject:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def response(
    response_id: str, *output: JsonObject, store: bool = True, previous: str | None = None
) -> JsonObject:
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": "qwen3-coder-plus",
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
        "text": {"format": {"type": "text"}},
        "store": store,
        "previous_response_id": previous,
        "output": [*output],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    }


def turn(final: JsonObject, *items: JsonObject) -> StoredResponse:
    """A turn that began a conversation with these items."""
    return StoredResponse(response=final, input=tuple(encoded(item) for item in items))


def expanded(
    store: ResponseStore,
    items: str | Sequence[JsonValue] | None,
    /,
    *,
    previous: str | None = None,
    **fields: JsonValue,
) -> Expansion:
    """What becomes of a request with this input."""
    body: JsonObject = {"model": "qwen3-coder-plus", **fields}
    if items is not None:
        body["input"] = items if isinstance(items, str) else [*items]
    if previous is not None:
        body["previous_response_id"] = previous
    content = json.dumps(body).encode()
    return expand(parse_request(content), content, store)


class Nothing:
    """A store that keeps nothing."""

    def save(self, stored: StoredResponse) -> None:
        pass

    def get(self, response_id: str) -> None:
        return None

    def delete(self, response_id: str) -> bool:
        return False

    def item(self, item_id: str) -> None:
        return None

    def context(self, response_id: str) -> None:
        return None

    def input_items(self, response_id: str) -> None:
        return None
