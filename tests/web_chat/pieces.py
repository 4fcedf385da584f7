"""Pieces of chat.qwen.ai's own language, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from qwen_mitm.wire.chat_request import (
    ChatMessage,
    ChatRequest,
    ChatText,
    FunctionDefinition,
    UserMessage,
)

CHAT = "1c0f1b9e-0000-4000-8000-000000000001"
PARENT = "1c0f1b9e-0000-4000-8000-000000000002"
RESPONSE = "1c0f1b9e-0000-4000-8000-000000000003"

WEATHER = FunctionDefinition(
    name="get_weather",
    description="Looks out of the window.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def created(parent_id: str = PARENT) -> bytes:
    ids = {"chat_id": CHAT, "parent_id": parent_id, "response_id": RESPONSE}
    return event({"response.created": ids})


def usage(output: int) -> dict[str, Any]:
    return {
        "input_tokens": 33,
        "output_tokens": output,
        "characters": 0,
        "total_tokens": 33 + output,
        "input_tokens_details": {"text_tokens": 33},
        "output_tokens_details": {"text_tokens": output},
        "cached_tokens": 0,
    }


def piece(content: str, *, phase: str | None = "answer", tokens: int = 1, **delta: Any) -> bytes:
    said = {"role": "assistant", "content": content, "phase": phase, "status": "typing", **delta}
    return event({"choices": [{"delta": said}], "usage": usage(tokens)})


def finished(phase: str | None = "answer", status: str = "finished") -> bytes:
    said = {"content": "", "role": "assistant", "status": status, "phase": phase}
    return event({"choices": [{"delta": said}]})


def answer(*texts: str) -> bytes:
    """A whole stream as the site sends it: usage grows, two empty pieces, an end without usage."""
    pieces = [piece(text, tokens=number) for number, text in enumerate(texts, 1)]
    last = piece("", tokens=len(texts))
    return b"".join([created(), *pieces, last, last, finished()])


def refusal(code: str, details: str = "", **data: Any) -> bytes:
    said = {"code": code, "details": details, **data}
    return json.dumps({"success": False, "request_id": "r-1", "data": said}).encode()


def chat(
    *messages: ChatMessage,
    system: str | None = None,
    tools: Iterable[FunctionDefinition] = (),
    **fields: Any,
) -> ChatRequest:
    return ChatRequest(
        model=fields.pop("model", "qwen3-max"),
        system=system,
        messages=messages,
        tools=tuple(tools),
        **fields,
    )


def user(text: str) -> UserMessage:
    return UserMessage((ChatText(text),))
