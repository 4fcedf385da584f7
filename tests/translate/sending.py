"""From the JSON of a Responses request to the JSON of the Chat request, as the addon goes."""

from __future__ import annotations

import json
from typing import Any

from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.history import Unseal
from qwen_mitm.translate.request import Translation, translate
from qwen_mitm.wire.input_items import InputItem
from qwen_mitm.wire.responses import parse_request


def translated(
    request: dict[str, Any],
    *,
    provider: str = "generic",
    unseal: Unseal | None = None,
    unseal_summary: Unseal | None = None,
    compact: bool = False,
) -> Translation:
    parsed = parse_request(json.dumps({"model": "qwen3.7-plus", **request}).encode())
    return translate(
        parsed,
        profile=PROFILES[provider],
        unseal=unseal,
        unseal_summary=unseal_summary,
        compact=compact,
    )


def sent(
    request: dict[str, Any],
    *,
    provider: str = "generic",
    stream: bool = False,
    unseal: Unseal | None = None,
    unseal_summary: Unseal | None = None,
    compact: bool = False,
) -> dict[str, Any]:
    translation = translated(
        request,
        provider=provider,
        unseal=unseal,
        unseal_summary=unseal_summary,
        compact=compact,
    )
    body: dict[str, Any] = json.loads(
        chat_body(translation.chat, PROFILES[provider], stream=stream)
    )
    return body


def items_of(*items: Any) -> tuple[InputItem, ...]:
    parsed = parse_request(json.dumps({"input": items}).encode()).input
    assert isinstance(parsed, tuple)
    return parsed


def messages(*items: Any, **context: Any) -> list[Any]:
    found: list[Any] = sent({"input": items}, **context)["messages"]
    return found


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "output_text", "text": text}]}


def call(
    call_id: str, name: str = "f", arguments: str | None = "{}", **more: Any
) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **more,
    }


def output(call_id: str, result: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": result}


def thought(summary: str, content: str | None = None, sealed: str | None = None) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": summary}],
        "content": None if content is None else [{"type": "reasoning_text", "text": content}],
        "encrypted_content": sealed,
    }


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def tool(call_id: str, content: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}
