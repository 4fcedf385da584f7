"""An upstream's answer to a probe: read as far as it tells something, and no further."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx

from qwen_mitm.wire.chat import AnswerReader, ChatChunk, Failure
from qwen_mitm.wire.error_body import failure_in, read_json

LARGEST_LIST = 4 * 2**20
LARGEST_ANSWER = 2**20


@dataclass(frozen=True, slots=True)
class Reply:
    status: int | None
    """None: there was no answer; ``body`` says why."""
    headers: dict[str, str]
    body: bytes
    seconds: float
    failure: Failure | None = None


def read_reply(response: httpx.Response, began: float, *, is_answer: bool) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if is_answer and response.status_code == 200:
        failure = _first_words(response)
        return Reply(200, headers, b"", time.monotonic() - began, failure)
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) > LARGEST_LIST:
            break
    return Reply(response.status_code, headers, body, time.monotonic() - began)


def _first_words(response: httpx.Response) -> Failure | None:
    """None when an answer begins, else why it does not."""
    reader = AnswerReader()
    size = 0
    for piece in response.iter_bytes():
        size += len(piece)
        for part in reader.feed(piece):
            if isinstance(part, Failure):
                return part
            if isinstance(part, ChatChunk) and part.choice is not None and _says_something(part):
                return None
        if size > LARGEST_ANSWER:
            break
    parts = reader.end()
    if failure := next((part for part in parts if isinstance(part, Failure)), None):
        return failure
    if size == 0:
        return Failure("the answer is empty")
    return None


def _says_something(chunk: ChatChunk) -> bool:
    choice = chunk.choice
    assert choice is not None
    delta = choice.delta
    return bool(delta.content or delta.reasoning or delta.tool_calls or choice.finish_reason)


def looks_like_list(body: bytes) -> bool:
    """JSON and no error: a page of a login or a router is a 200 too."""
    try:
        document = read_json(body)
    except ValueError:
        return False
    if not isinstance(document, dict) or failure_in(document) is not None:
        return False
    return "data" in document or "models" in document


def model_names(body: bytes) -> list[str]:
    try:
        document = read_json(body)
    except ValueError:
        return []
    match document:
        case {"data": list(entries)}:
            names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
            return [name for name in names if isinstance(name, str)]
    return []
