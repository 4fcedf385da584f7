"""What an upstream says when it cannot answer, read into one shape.

The shapes are those of responses-to-chat §11; they come as the body of a 4xx or 5xx, as the whole
body of a 200, and as one event of a stream.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

type JsonObject = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Failure:
    """An upstream's error; ``status`` is the HTTP status that it names itself, if it names one."""

    message: str
    type: str = "server_error"
    code: str | None = None
    param: str | None = None
    status: int | None = None


_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

# Pages of gateways; a person needs the heading, not the page.
_LONGEST_TEXT: Final = 300
# Unclosed elements run to the end, so that every pattern takes linear time on any input.
_UNSEEN: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE
)
_HEAD: Final = re.compile(r"<head\b.*?(?:</head\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*>")


def read_json(data: bytes) -> JsonValue:
    """The JSON value, with U+FFFD for broken UTF-8 and lone surrogates; ``ValueError`` if none."""
    value: JsonValue
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        value = from_json(data)
        return value
    except ValueError:
        pass
    try:
        # Some hosts cut an escaped surrogate pair between two deltas, which json.loads lets pass.
        text = json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False)
    except RecursionError as e:
        raise ValueError("the JSON is nested too deeply") from e
    value = from_json(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return value


def readable(data: bytes) -> str:
    """The words of a page or of plain text, on one line and short; "" if there are none."""
    text = data.decode("utf-8", "replace")
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        page = _UNSEEN.sub(" ", text)
        # The title mostly says what the heading says.
        text = _words(_HEAD.sub(" ", page)) or _words(page)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1].rstrip() + "…"


def _words(page: str) -> str:
    return html.unescape(_TAG.sub(" ", page)).strip()


def type_for(status: int | None) -> str:
    """``error.type`` where the upstream gave none."""
    if status is None or status >= 500:
        return "server_error"
    return _TYPES.get(status, "invalid_request_error")


def failure_in(document: JsonValue, status: int | None = None) -> Failure | None:
    """The error that a JSON document speaks of, or None; ``status`` is used where it names none."""
    match document:
        case str(text) if text.strip():
            return Failure(text, type_for(status), status=status)
        case [first, *_]:
            return failure_in(first, status)
        case dict():
            return _failure_in_object(document, status)
    return None


def _failure_in_object(document: JsonObject, status: int | None) -> Failure | None:
    match document.get("error"):
        case dict(error) if error:
            return _openrouter(error, status) or _flat(error, status)
        case str(error) if error:
            return _named(error, document, status)
    if detail := document.get("detail"):
        return _fastapi(detail, status)
    return _flat(document, status)


def _flat(error: JsonObject, status: int | None) -> Failure | None:
    """``{message, type, param, code}`` in any selection, also Model Studio's and vLLM's."""
    message = error.get("message") or error.get("msg")
    if not message:
        return None
    if not isinstance(message, str):
        message = json.dumps(message, ensure_ascii=False)
    status = _status(error) or status
    return Failure(
        message,
        _word(error.get("type")) or type_for(status),
        _word(error.get("code")),
        _word(error.get("param")),
        status,
    )


def _openrouter(error: JsonObject, status: int | None) -> Failure | None:
    """OpenRouter's own message is "Provider returned error"; the provider's is inside, as text."""
    match error:
        case {"metadata": {"raw": str(raw)}} if raw.strip():
            status = _status(error) or status
            try:
                inner = failure_in(read_json(raw.encode()), status)
            except ValueError:
                inner = None
            return inner or Failure(readable(raw.encode()), type_for(status), status=status)
    return None


def _named(error: str, rest: JsonObject, status: int | None) -> Failure:
    """``{"error": "words"}``, or a name whose words stand beside it (OAuth, Spring)."""
    status = _status(rest) or status
    words = rest.get("error_description") or rest.get("message")
    if isinstance(words, str):
        return Failure(words, type_for(status), error, status=status)
    return Failure(error, type_for(status), _word(rest.get("code")), status=status)


def _fastapi(detail: JsonValue, status: int | None) -> Failure | None:
    match detail:
        case [{"msg": str()}, *_]:
            faults = [_fault(item) for item in detail if isinstance(item, dict)]
            message = "; ".join(f"{where}: {what}" if where else what for where, what in faults)
            return Failure(message, type_for(status), param=faults[0][0] or None, status=status)
    return failure_in(detail, status)


def _fault(item: JsonObject) -> tuple[str, str]:
    loc = item.get("loc")
    path = [str(step) for step in loc] if isinstance(loc, list) else []
    return ".".join(path[1:] if path[:1] == ["body"] else path), str(item.get("msg", ""))


def _status(error: JsonObject) -> int | None:
    """OpenRouter, vLLM and llama.cpp write the HTTP status where OpenAI has a word."""
    for name in ("status", "status_code", "code"):
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _word(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value and not value.isdecimal() else None
