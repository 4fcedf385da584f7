"""What the model says when nothing else was asked of it."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from .rules import Body, thinks
from .schema import example

_CALL = re.compile(r"(call|then):([\w.-]+)")
_PIECE = re.compile(r"\s*\S+\s*?|\s+$")
_DECODER = json.JSONDecoder()
_numbers = itertools.count(1)


@dataclass(slots=True)
class Call:
    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Answer:
    """What is said, before it is cut into chunks. Behaviours change it in place."""

    reasoning: str = ""
    text: str = ""
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    finish_reason: str | None = "stop"
    prompt_tokens: int = 1
    cached_tokens: int = 0

    def usage(self) -> dict[str, Any]:
        """As Model Studio counts it; one token per piece."""
        thought = len(pieces(self.reasoning))
        said = len(pieces(self.text)) + len(pieces(self.refusal))
        said += sum(1 + len(call.arguments) // 4 for call in self.calls)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": thought + said,
            "total_tokens": self.prompt_tokens + thought + said,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": thought, "text_tokens": said},
        }


def new_call(name: str, arguments: str) -> Call:
    return Call(f"call_{next(_numbers):024x}", name, arguments)


def pieces(text: str) -> list[str]:
    """The text word by word; joined again, it is the text."""
    return _PIECE.findall(text)


def answer(body: Body) -> Answer:
    """The default answer to a request that broke no rule."""
    messages: list[Body] = body["messages"]
    result = Answer(prompt_tokens=max(1, len(json.dumps(messages)) // 4))
    result.cached_tokens = result.prompt_tokens // 2 if len(messages) > 2 else 0
    if thinks(body):
        result.reasoning = "The user wants an answer. I look at the words and keep it short."
    if calls := _wanted_calls(body, messages):
        result.calls = calls
        result.finish_reason = "tool_calls"
    elif messages[-1]["role"] == "tool":
        result.text = _quote_results(messages)
    else:
        result.text = _formatted(body) or _talk(messages)
    return _limited(result, body)


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if part.get("type") == "text")


def _last_user(messages: list[Body]) -> Body:
    return next(m for m in reversed(messages) if m["role"] == "user")


def _quote_results(messages: list[Body]) -> str:
    results = itertools.takewhile(lambda m: m["role"] == "tool", reversed(messages))
    quoted = " and ".join(f"“{text_of(m['content'])}”" for m in reversed(list(results)))
    return f"The tools said {quoted}. That is all I needed."


def _wanted_calls(body: Body, messages: list[Body]) -> list[Call]:
    """The calls of this round: ``call:a call:b then:c`` is a and b together, then c."""
    functions = {t["function"]["name"]: t["function"] for t in body.get("tools") or []}
    choice = body.get("tool_choice", "auto")
    if not functions or choice == "none":
        return []
    since_asked = itertools.takewhile(lambda m: m["role"] != "user", reversed(messages))
    made = sum(1 for message in since_asked if message.get("tool_calls"))
    text = text_of(_last_user(messages)["content"])
    calls = []
    step = 0
    for marker in _CALL.finditer(text):
        step += marker[1] == "then"
        name = marker[2] if marker[2] in functions else marker[2].rstrip(".-")
        if name in functions and step == made:
            calls.append(new_call(name, _arguments(functions[name], text[marker.end() :])))
    if messages[-1]["role"] == "tool":
        return calls
    if not calls and (choice == "required" or isinstance(choice, dict)):
        name = choice["function"]["name"] if isinstance(choice, dict) else next(iter(functions))
        calls = [new_call(name, _arguments(functions[name], ""))]
    return calls[:1] if body.get("parallel_tool_calls") is False else calls


def _arguments(function: Body, rest: str) -> str:
    """``call:name{"a":1}`` says which arguments it wants."""
    if rest.startswith("{"):
        try:
            given, _ = _DECODER.raw_decode(rest)
        except ValueError:
            given = None
        if given is not None:
            return json.dumps(given, ensure_ascii=False)
    return json.dumps(example(function.get("parameters") or {"type": "object"}), ensure_ascii=False)


def _formatted(body: Body) -> str:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(example(wanted["json_schema"].get("schema")), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        words = text_of(_last_user(body["messages"])["content"])
        return json.dumps({"answer": words}, ensure_ascii=False)
    return ""


def _talk(messages: list[Body]) -> str:
    content = _last_user(messages)["content"]
    words = " ".join(text_of(content).split())
    short = words if len(words) <= 200 else words[:200] + "…"
    images = [p for p in content if p["type"] == "image_url"] if isinstance(content, list) else []
    seen = f" I see {len(images)} image(s): {', '.join(map(_size, images))}." if images else ""
    return f"You said “{short}”.{seen} 你好 — this is the Qwen simulator, and it heard you. 👋"


def _size(part: Body) -> str:
    """Pixels for PNG and GIF, bytes for other data, the address itself otherwise."""
    image = part["image_url"]
    url: str = image["url"] if isinstance(image, dict) else image
    if not url.startswith("data:"):
        return url
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error:
        return "not valid base64"
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        return f"{width}x{height} ({len(data)} bytes)"
    if data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        return f"{width}x{height} ({len(data)} bytes)"
    return f"{len(data)} bytes"


def _limited(result: Answer, body: Body) -> Answer:
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    words = pieces(result.text)
    if isinstance(limit, int) and len(words) > limit:
        return replace(result, text="".join(words[:limit]), finish_reason="length")
    return result
