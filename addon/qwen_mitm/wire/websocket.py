"""The messages of WebSocket mode: one JSON object per text frame (responses-to-chat §13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from qwen_mitm.errors import BridgeError, InvalidRequest
from qwen_mitm.wire.request_faults import without_lone_surrogates
from qwen_mitm.wire.response_object import JsonObject

#: Codex tells with it what it has shown; nobody waits for an answer.
_NOTICES: Final = frozenset({"response.processed"})
#: It comes back in every event.
_LONGEST_STREAM_ID: Final = 256
_SHOWABLE: Final = re.compile(r"[\w.-]{1,64}")
#: Headers of a refusal that describe the answer that it is not.
_OF_HTTP: Final = ("content-", "transfer-encoding", "connection", "date", "server")


@dataclass(frozen=True, slots=True)
class Create:
    """A ``response.create``: the body of the POST that it stands for, and its lane."""

    body: bytes = field(repr=False)
    stream_id: str | None = None


def read_message(text: bytes) -> Create | bytes | None:
    """What a client's message asks for: a response, this message in return, or nothing."""
    stream_id: str | None = None
    try:
        message = _object(text)
        stream_id = _lane(message)
        return _meaning(message, stream_id)
    except InvalidRequest as error:
        return error_message(error.status, error.body(), {}, stream_id)


def _object(text: bytes) -> JsonObject:
    try:
        message = from_json(text)
    except ValueError:
        try:
            message = from_json(without_lone_surrogates(text))
        except ValueError:
            raise InvalidRequest("The message is not JSON. Send one object per message.") from None
    if not isinstance(message, dict):
        raise InvalidRequest("The message must be a JSON object.")
    return message


def _lane(message: JsonObject) -> str | None:
    stream_id = message.pop("stream_id", None)
    if stream_id is None or (isinstance(stream_id, str) and len(stream_id) <= _LONGEST_STREAM_ID):
        return stream_id
    raise InvalidRequest(
        f"'stream_id' must be a string of at most {_LONGEST_STREAM_ID} characters.",
        param="stream_id",
    )


def _meaning(message: JsonObject, stream_id: str | None) -> Create | bytes | None:
    kind = message.pop("type", None)
    if kind == "response.create":
        cache = message.get("prompt_cache_options")
        if isinstance(cache, dict) and cache.get("prewarm") is True:
            message["generate"] = False
        return Create(to_json({**message, "stream": True}, inf_nan_mode="constants"), stream_id)
    if kind == "response.steer":
        return _steering_failed(message)
    shown = ""
    if isinstance(kind, str):
        if kind in _NOTICES:
            return None
        shown = f" {kind!r}" if _SHOWABLE.fullmatch(kind) else ""
    raise InvalidRequest(
        f"Unknown type of message{shown}. Send 'response.create'.",
        param="type",
        code="unknown_type",
    )


def _steering_failed(message: JsonObject) -> bytes:
    event: JsonObject = {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "steer": {
            "previous_response_id": message.get("previous_response_id"),
            "input": message.get("input"),
        },
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "Responses cannot be steered here. Send the input with the next "
            "'response.create'.",
        },
    }
    return to_json(event, inf_nan_mode="null")


def error_message(
    status: int, body: bytes, headers: Mapping[str, str], stream_id: str | None
) -> bytes:
    """The ``error`` event for a refused request, from the answer that a POST would have got."""
    try:
        told = from_json(body)["error"]
        error: dict[str, JsonValue] = {
            key: told.get(key) for key in ("type", "code", "message", "param")
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        error = {
            "type": "server_error",
            "code": None,
            "message": f"The request was answered with status {status}.",
            "param": None,
        }
    event: JsonObject = {"type": "error", "status": status, "error": error}
    kept: JsonObject = {
        name.lower(): value
        for name, value in headers.items()
        if not name.lower().startswith(_OF_HTTP)
    }
    if kept:
        # Codex looks for retry-after here, the SDK in the error.
        event["headers"] = error["headers"] = kept
    return _on_lane(to_json(event), stream_id)


def refusal_message(error: BridgeError, stream_id: str | None = None) -> bytes:
    """The ``error`` event for a refusal of our own."""
    return error_message(error.status, error.body(), error.headers, stream_id)


class EventMessages:
    """The events of an SSE stream as messages, in whatever pieces it comes."""

    def __init__(self, stream_id: str | None) -> None:
        self._stream_id = stream_id
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """A message for each event; comments and ``[DONE]`` have none."""
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        texts = (frame.partition(b"\ndata: ")[2] for frame in frames)
        return [_on_lane(text, self._stream_id) for text in texts if text]


def _on_lane(event: bytes, stream_id: str | None) -> bytes:
    if stream_id is None:
        return event
    return b'{"stream_id":%b,%b' % (to_json(stream_id), event[1:])
