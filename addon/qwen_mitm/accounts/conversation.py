"""Which conversation a request belongs to, so that it can stay on one account. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from qwen_mitm.wire.content import ImagePart, RefusalPart, TextPart
from qwen_mitm.wire.input_items import Message
from qwen_mitm.wire.responses import ResponsesRequest

#: Of Codex, of older Codex, and of OpenCode; the first that is there counts.
SESSION_HEADERS: Final = (
    "session_id",
    "session-id",
    "conversation_id",
    "x-session-id",
    "x-session-affinity",
)
#: More of a text than this is not needed to tell two conversations apart.
_READ: Final = 4096
_MOST_ITEMS: Final = 16
_LONGEST_KEY: Final = 256


def conversation_key(request: ResponsesRequest, headers: Mapping[str, str]) -> str | None:
    """The same key for each turn of a conversation; None: nothing tells them apart.

    ``prompt_cache_key``, else a session's header (names in lower case), else what the conversation
    begins with: everything before the model's first answer, which all later turns repeat.
    """
    if request.prompt_cache_key:
        return _bounded(request.prompt_cache_key)
    for name in SESSION_HEADERS:
        if value := headers.get(name, "").strip():
            return _bounded(value)
    pieces = list(_beginning(request))
    if not pieces:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for piece in (request.instructions or "", *pieces):
        data = piece[:_READ].encode("utf-8", "replace")
        digest.update(b"%d:%d:" % (len(piece), len(data)) + data)
    return f"items-{digest.hexdigest()}"


def _bounded(key: str) -> str:
    if len(key) <= _LONGEST_KEY:
        return key
    return hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _beginning(request: ResponsesRequest) -> Iterator[str]:
    if isinstance(request.input, str):
        yield f"user {request.input}"
        return
    # "hello" as a string and as a message are the same beginning.
    for item in (request.input or ())[:_MOST_ITEMS]:
        if not isinstance(item, Message) or item.role == "assistant":
            return
        yield from _words(item)


def _words(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield f"{message.role} {message.content}"
        return
    for part in message.content:
        match part:
            case TextPart():
                yield f"{message.role} {part.text}"
            case ImagePart():
                yield f"{message.role} image {part.image_url or part.file_id or ''}"
            case RefusalPart():
                yield f"{message.role} {part.refusal}"
            case _:
                yield f"{message.role} {part.type}"
