"""How chat.qwen.ai answers, with its oddities, and its errors on demand (web-chat.md §5).

Behaviours join by ``+``, in the model's name behind ``sim-`` or in a line of a script:

    think summary search              phases before the answer
    gate-NAME@N                       waits behind the N-th piece of the answer
    length stopped                    how the answer ends
    cut@N drop@N error-line@N         it breaks off behind the N-th piece
    document                          one JSON document in the place of a stream
    bytewise split                    pieces of single bytes, or cut within characters
    rate-limited[-HOURS] daily bad-request broken-chain unknown-model logged-out   errors in a 200
    waf waf-STATUS                    a page of the firewall
    401 403 429 429-after-S 500 503 504   the bare status
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

from .staging import bytewise, cut, gate, split_characters
from .steps import Break, Performance, Send, Staging, Step

type Document = dict[str, Any]

_WORDS = re.compile(r"\S*\s*")
_PAGE = (
    b'<!doctype html><html><head><meta name="aliyun_waf_aa" content="x"></head><body>'
    b"<script src='/baxia/punish.js'></script>Please slide to verify</body></html>"
)
_GATEWAY = b"<html><body><center><h1>504 Gateway Time-out</h1></center></body></html>"
_ERRORS: dict[str, tuple[str, str]] = {
    "daily": ("Forbidden", "You have reached the upper limit for today's usage."),
    "bad-request": ("Bad_Request", "Bad Request"),
    "broken-chain": ("invalid_input", "Invalid input chat parent_id X is not exist."),
    "unknown-model": ("Not_Found", "Model not found"),
    "logged-out": ("Unauthorized", "token has expired, please log in again"),
}


def refused(code: str, details: str = "", **data: Any) -> Performance:
    """An error inside a 200."""
    said = {"code": code, "details": details, **data}
    return document({"success": False, "request_id": str(uuid.uuid4()), "data": said})


def document(content: Document, status: int = 200) -> Performance:
    data = json.dumps(content, ensure_ascii=False).encode()
    headers = [("content-type", "application/json")]
    return Performance(status, headers, [Send(data)], content_length=len(data))


def fault(word: str) -> Performance | None:
    """The answer of a behaviour that takes the place of one."""
    name, _, argument = word.partition("-")
    if word.startswith("rate-limited"):
        hours = word.removeprefix("rate-limited").removeprefix("-")
        return refused(
            "RateLimited", "Too many messages.", **({"num": int(hours)} if hours else {})
        )
    if word in _ERRORS:
        return refused(*_ERRORS[word])
    if name == "waf":
        return _page(int(argument or 200), _PAGE)
    if word == "504":
        return _page(504, _GATEWAY)
    if name.isdigit():
        performance = document({"detail": f"status {name}"}, int(name))
        if argument.startswith("after-"):
            performance.headers.append(("retry-after", argument.removeprefix("after-")))
        return performance
    return None


def _page(status: int, page: bytes) -> Performance:
    headers = [("content-type", "text/html; charset=utf-8")]
    return Performance(status, headers, [Send(page)], content_length=len(page))


def answer(text: str, ids: Document, words: list[str], *, has_phases: bool) -> Performance:
    """The stream of an answer; ``ids`` are those of its first event."""
    if "document" in words:
        said = {"role": "assistant", "content": text}
        data = {
            "chat_id": "",
            "parent_id": ids["parent_id"],
            "message_id": ids["response_id"],
            "messages": None,
            "choices": [{"message": said}],
        }
        return document({"success": True, "request_id": str(uuid.uuid4()), "data": data})
    ending = next((word for word in words if word in ("length", "stopped")), "finished")
    told = [*_pieces(text, has_phases), _last(has_phases, ending)]
    for stage in filter(None, map(_staging, words)):
        told = stage(told)
    phases = [step for word in words for step in _phase_before(word)]
    steps = [_event({"response.created": ids}), *phases, *told]
    if "bytewise" in words:
        steps = bytewise(steps)
    if "split" in words:
        steps = split_characters(steps)
    return Performance(200, [("content-type", "text/event-stream; charset=utf-8")], steps)


def _pieces(text: str, has_phases: bool) -> list[Step]:
    """Usage is on every piece and grows; two empty ones precede the end."""
    pieces = [piece for piece in _WORDS.findall(text) if piece]
    phase = "answer" if has_phases else None
    return [
        _event(_chunk(piece, phase, tokens=min(number, len(pieces))), chunks=bool(piece))
        for number, piece in enumerate([*pieces, "", ""], 1)
    ]


def _last(has_phases: bool, ending: str) -> Step:
    delta: Document = {"content": "", "role": "assistant", "status": ending}
    if has_phases:
        delta["phase"] = "answer"
    return _event({"choices": [{"delta": delta}]})


def _phase_before(word: str) -> Iterator[Step]:
    match word:
        case "think":
            for piece in ("Let me ", "think."):
                yield _event(_chunk(piece, "think", tokens=1))
            yield _event(_done("think"))
        case "summary":
            for told in (["A plan"], ["A plan", "and more"]):
                extra = {"summary_thought": {"content": told}}
                yield _event(_chunk("", "thinking_summary", tokens=1, extra=extra))
            yield _event(_done("thinking_summary"))
        case "search":
            yield _event(_chunk("", "web_search", tokens=1, name="web_search"))
            yield _event(_done("web_search"))


def _chunk(content: str, phase: str | None, *, tokens: int, **more: Any) -> Document:
    delta: Document = {"role": "assistant", "content": content, "status": "typing", **more}
    if phase is not None:
        delta["phase"] = phase
    usage = {
        "input_tokens": 33,
        "output_tokens": tokens,
        "characters": 0,
        "total_tokens": 33 + tokens,
        "input_tokens_details": {"text_tokens": 33},
        "output_tokens_details": {"text_tokens": tokens},
        "cached_tokens": 0,
    }
    return {"choices": [{"delta": delta}], "usage": usage}


def _done(phase: str) -> Document:
    return {"choices": [{"delta": {"content": "", "status": "finished", "phase": phase}}]}


def _staging(word: str) -> Staging | None:
    name, _, number = word.partition("@")
    chunk = int(number or 1)
    if name.startswith("gate-"):
        return gate(name.removeprefix("gate-"), chunk)
    match name:
        case "cut":
            return cut(chunk)
        case "drop":
            return cut(chunk, Break("abort"))
        case "error-line":
            return cut(chunk, _event({"error": {"code": "internal_error", "details": "oops"}}))
    return None


def _event(content: Document, *, chunks: int = 0) -> Step:
    data = json.dumps(content, ensure_ascii=False).encode()
    return Send(b"data: " + data + b"\n\n", int(chunks))
