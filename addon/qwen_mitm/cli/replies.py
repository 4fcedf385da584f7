"""An upstream's answer to a probe: read as far as it tells something, and no further."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx

from qwen_mitm.translate.failure import with_words_before
from qwen_mitm.wire.chat import AnswerReader, ChatChunk, Failure
from qwen_mitm.wire.error_body import failure_in, read_json

LARGEST_LIST = 4 * 2**20
LARGEST_ANSWER = 2**20
#: A host that does not keep to one token is not listened to for long.
ENOUGH_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class Reply:
    status: int | None
    """None: there was no answer; ``body`` says why."""
    headers: dict[str, str]
    body: bytes
    seconds: float
    failure: Failure | None = None


def read_reply(response: httpx.Response, began: float, *, is_answer: bool) -> Reply:
    """The answer; of a stream its beginning. ``began`` is of time.monotonic."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    if is_answer and response.status_code == 200:
        beginning = _Beginning()
        failure = beginning.read(response)
        return Reply(200, headers, b"", (beginning.at or time.monotonic()) - began, failure)
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) > LARGEST_LIST:
            break
    return Reply(response.status_code, headers, body, time.monotonic() - began)


class _Beginning:
    """The first chunks of an answer. Some hosts put an error where the text should be."""

    def __init__(self) -> None:
        self.at: float | None = None
        """When the first token came, by time.monotonic."""
        self._text = ""
        self._chunks = 0

    def read(self, response: httpx.Response) -> Failure | None:
        """None when an answer begins, else why it does not."""
        reader = AnswerReader()
        size = 0
        for piece in response.iter_bytes():
            size += len(piece)
            for part in reader.feed(piece):
                if isinstance(part, Failure):
                    return with_words_before(part, self._text)
                if isinstance(part, ChatChunk) and self._tells_enough(part):
                    return None
            if size > LARGEST_ANSWER:
                break
        for part in reader.end():
            if isinstance(part, Failure):
                return with_words_before(part, self._text)
            if isinstance(part, ChatChunk) and self._tells_enough(part):
                return None
        return Failure("the answer is empty") if self.at is None else None

    def _tells_enough(self, chunk: ChatChunk) -> bool:
        if chunk.choice is None:
            return False
        delta = chunk.choice.delta
        self._text += delta.content or ""
        if delta.content or delta.reasoning or delta.tool_calls or chunk.choice.finish_reason:
            self.at = self.at or time.monotonic()
            self._chunks += 1
        return self._chunks >= ENOUGH_CHUNKS or bool(chunk.choice.finish_reason)


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
