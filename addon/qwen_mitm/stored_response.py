"""What is kept of a response that has ended, and where (responses-to-chat §12).

The items of a conversation's next turn are those that the model read, then its output, then the
new input. Instructions and tools are each request's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import JsonValue, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from qwen_mitm.wire.response_object import JsonObject

_OBJECT: Final = TypeAdapter[dict[str, JsonValue]](dict[str, JsonValue])
_ID_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response that has ended. ``input`` is all that the model read, one JSON text per item."""

    response: JsonObject
    input: tuple[bytes, ...]

    @property
    def id(self) -> str:
        return str(self.response["id"])

    @property
    def output(self) -> tuple[bytes, ...]:
        items = self.response["output"]
        return tuple(encoded(item) for item in items) if isinstance(items, list) else ()


class ResponseStore(Protocol):
    """Where responses are kept. No method raises because of what it stands on.

    What cannot be kept or read is logged, and is as if it had never been stored.
    """

    def save(self, stored: StoredResponse) -> None:
        """Keep it, unless it was made with ``store: false``; when this returns, all can find it."""

    def get(self, response_id: str) -> JsonObject | None:
        """The response object."""

    def delete(self, response_id: str) -> bool:
        """Forget it. What was built on it keeps what it needs; False: there is none."""

    def item(self, item_id: str) -> bytes | None:
        """An input or output item of a stored response, JSON."""

    def context(self, response_id: str) -> Sequence[bytes] | None:
        """What the model reads before the input of the next turn, JSON of each item."""

    def input_items(self, response_id: str) -> list[JsonObject] | None:
        """What the model read, oldest first; each item has an id."""


def encoded(value: JsonValue) -> bytes:
    """JSON without spaces; half a surrogate pair, which has no UTF-8 form, becomes U+FFFD."""
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        return to_json(_mended(value), inf_nan_mode="null")


def _mended(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {str(_mended(key)): _mended(item) for key, item in value.items()}
    return value


def chain(items: Iterable[bytes], start: bytes = b"") -> Iterator[bytes]:
    """A key for each item that tells it and everything before it."""
    key = start
    for item in items:
        key = hashlib.blake2b(item, digest_size=16, key=key).digest()
        yield key


def item_id(item: JsonObject, key: bytes) -> str:
    """The item's own id; else one that stays the same, as clients come back with it."""
    own = item.get("id")
    if isinstance(own, str) and own:
        return own
    return f"{_ID_PREFIXES.get(str(item.get('type', 'message')), 'item')}_{key.hex()}"


def with_id(item: bytes, key: bytes) -> JsonObject:
    """The item as OpenAI lists it: with an id, a type, and parts where it was a plain text."""
    content = _OBJECT.validate_json(item)
    content |= {"id": item_id(content, key), "type": content.get("type", "message")}
    text = content.get("content")
    if content["type"] == "message" and isinstance(text, str):
        part: JsonObject = {"type": "input_text", "text": text}
        if content.get("role") == "assistant":
            part = {"type": "output_text", "text": text, "annotations": []}
        content["content"] = [part]
    return content
