"""What chat.qwen.ai sends: events of a stream, whole answers, errors (web-chat.md §5). Pure.

None of it is documented by its provider, so that unknown fields are ignored, and what is missing
reads as absent.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from qwen_mitm.wire.chat import Usage
from qwen_mitm.wire.error_body import read_json

#: What the gateway calls a captcha.
_CAPTCHA: Final = "FAIL_SYS_USER_VALIDATE"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def validate_parent_id(parent_id: str | None) -> str | None:
    """The id of the message that the next one follows; None for the first of a chat.

    Raises:
        ValueError: it is no UUID.
    """
    if parent_id is not None and not _UUID.fullmatch(parent_id):
        raise ValueError("a parent_id is a UUID")
    return parent_id


def _text_or_absent(value: object) -> object:
    return value if isinstance(value, str) else None


def _object_or_absent(value: object) -> object:
    return value if isinstance(value, dict) else None


def _data_or_absent(value: object) -> object:
    return {"details": value} if isinstance(value, str) else _object_or_absent(value)


def _number_or_absent(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _texts(value: object) -> object:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else ()


_Text = Annotated[str | None, BeforeValidator(_text_or_absent)]


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Created(_Sent):
    """The first event. The next message follows ``parent_id``: with ``response_id`` or another
    id the site forgets the conversation."""

    chat_id: _Text = None
    parent_id: _Text = None
    response_id: _Text = None


class SummaryThought(_Sent):
    content: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()


class Extra(_Sent):
    summary_thought: Annotated[SummaryThought | None, BeforeValidator(_object_or_absent)] = None


class PhaseDelta(_Sent):
    """``phase``: ``think``, ``thinking_summary``, ``answer``, or the name of a tool of the site.

    Each phase has a ``finished`` of its own.
    """

    content: _Text = None
    phase: _Text = None
    status: _Text = None
    name: _Text = None
    extra: Annotated[Extra | None, BeforeValidator(_object_or_absent)] = None


class PhaseChoice(_Sent):
    delta: Annotated[PhaseDelta | None, BeforeValidator(_object_or_absent)] = None
    message: Annotated[PhaseDelta | None, BeforeValidator(_object_or_absent)] = None
    finish_reason: _Text = None


def _choices(value: object) -> object:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else ()


class _Data(_Sent):
    code: JsonValue = None
    details: JsonValue = None
    num: Annotated[float | None, BeforeValidator(_number_or_absent)] = None
    id: _Text = None
    url: _Text = None
    parent_id: _Text = None
    choices: Annotated[tuple[PhaseChoice, ...], BeforeValidator(_choices)] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error inside a 200; ``num`` are hours."""

    code: str = ""
    details: str = ""
    num: float | None = None


class Chunk(_Sent):
    """One event of a stream, or a whole document."""

    created: Annotated[Created | None, BeforeValidator(_object_or_absent)] = Field(
        default=None, alias="response.created"
    )
    choices: Annotated[tuple[PhaseChoice, ...], BeforeValidator(_choices)] = ()
    usage: Annotated[Usage | None, BeforeValidator(_object_or_absent)] = None
    """Cumulative, on the chunks that have content and not on the last."""
    success: bool | None = None
    data: Annotated[_Data | None, BeforeValidator(_data_or_absent)] = None
    detail: JsonValue = None
    error: JsonValue = None
    code: _Text = None
    message: _Text = None
    ret: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    """Of the provider's gateway, which answers in the place of the site."""
    url: _Text = None

    @property
    def refusal(self) -> Refusal | None:
        if self.error:
            return _refusal_of(self.error)
        data = self.data or _Data()
        if "/punish" in (data.url or self.url or ""):
            return Refusal(_CAPTCHA)
        if self.ret and not any(one.startswith("SUCCESS") for one in self.ret):
            return Refusal(details=" ".join(self.ret))
        details = _words(data.details or self.message or self.detail)
        if self.success is False:
            return Refusal(_words(data.code) or self.code or "", details, data.num)
        says_why = self.detail or (self.data is None and self.code and self.message)
        return Refusal(self.code or "", details) if says_why and not self.choices else None


def _refusal_of(error: JsonValue) -> Refusal:
    if not isinstance(error, dict):
        return Refusal(details=_words(error))
    details = error.get("details") or error.get("message") or error.get("detail")
    num = _number_or_absent(error.get("num"))
    return Refusal(
        _words(error.get("code")), _words(details), num if isinstance(num, float) else None
    )


def _words(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parse_chunk(data: bytes) -> Chunk | None:
    """The event in the data of one server-sent event; None when it is no JSON object.

    Raises:
        ValueError: it is an object of another shape.
    """
    try:
        document = read_json(data)
    except ValueError:
        return None
    return Chunk.model_validate(document) if isinstance(document, dict) else None
