"""The upstream's refusals in the words and numbers that a Responses client acts on.

Clients decide by HTTP status, ``retry-after`` and ``error.code`` (responses-to-chat §10, §11).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from qwen_mitm.errors import UpstreamRefused
from qwen_mitm.wire.chat import Failure
from qwen_mitm.wire.error_body import failure_in, read_json, readable, type_for

_CONTEXT_LENGTH: Final = re.compile(
    r"context_length_exceeded|exceed_context_size_error|maximum context length"
    r"|model's context length|Range of input length should be"
    r"|exceeds the available context size|exceeds the context window",
    re.IGNORECASE,
)
# Model Studio's daily allocation, which no waiting within a turn refills.
_SPENT: Final = "Throttling.AllocationQuota"
_KEPT_CODES: Final = frozenset(
    {
        "insufficient_quota",
        "rate_limit_exceeded",
        "server_is_overloaded",
        "slow_down",
        "invalid_prompt",
        "usage_not_included",
        "bio_policy",
        "cyber_policy",
    }
)
#: Of our own errors (errors.py), those that a repetition does not heal.
_FATAL_OF_OURS: Final = frozenset({"quota_exceeded", "no_usable_account", "translation_fault"})
# The words of qwen.md §2.7 and of the error types, with the HTTP status that belongs to each.
_STATUS_OF: Final[tuple[tuple[re.Pattern[str], int], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"invalid_?api_?key|authentication|unauthorized|token expired", 401),
        (r"access_?denied|permission", 403),
        (r"model_?not_?found", 404),
        (r"insufficient_quota|quota|throttling|rate_limit|limit_requests|too many requests", 429),
        (r"overloaded|slow_down|unavailable", 503),
        (r"invalid_?parameter|invalid_request|invalid_prompt|data_?inspection|arrearage", 400),
    )
)
_PASSED: Final = frozenset({"x-request-id", "x-error-code"})
_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?")


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, max_retry_after: float
) -> UpstreamRefused:
    """The upstream's 4xx or 5xx in OpenAI's shape; another status, which is no answer, is a 502.

    A wait beyond ``max_retry_after`` seconds is not passed on: clients sleep that long in silence.
    """
    if not 400 <= status < 600:
        status = HTTPStatus.BAD_GATEWAY
    failure = _failure(status, body)
    lower = {name.lower(): value for name, value in headers.items()}
    return UpstreamRefused(
        failure.message,
        status=status,
        type=failure.type,
        param=failure.param,
        code=_http_code(failure),
        headers=_passed(lower, max_retry_after),
    )


def failure_error(failure: Failure) -> UpstreamRefused:
    """The HTTP error for a failure that came inside a 200 answer, before any output."""
    status = failure.status or _status_for(failure)
    type_ = failure.type
    if type_ == "server_error" and status < 500:
        type_ = type_for(status)
    return UpstreamRefused(
        failure.message, status=status, type=type_, param=failure.param, code=_http_code(failure)
    )


def client_code(code: str | None, message: str) -> str:
    """``error.code`` of ``response.failed``.

    What no repetition heals is ``invalid_prompt``, the one code at which Codex shows the message
    and stops; it sends the request six times at a code that it does not know.
    """
    if _is_context_length(code, message):
        return "context_length_exceeded"
    if code in _KEPT_CODES:
        return code
    if code == _SPENT:
        return "insufficient_quota"
    if code in _FATAL_OF_OURS:
        return "invalid_prompt"
    match _status_for(Failure(message, code=code)):
        case 429:
            return "rate_limit_exceeded"
        case 503:
            return "server_is_overloaded"
        case 502:
            return "server_error"
    return "invalid_prompt"


def _failure(status: int, body: bytes) -> Failure:
    try:
        document = read_json(body)
    except ValueError:
        words = readable(body)
    else:
        if failure := failure_in(document, status):
            return failure
        words = readable(body) if document else ""
    return Failure(words or _no_reason(status), type_for(status), status=status)


def _no_reason(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus else "unknown status"
    hint = "; is the base URL right?" if status == HTTPStatus.NOT_FOUND else ""
    return f"The upstream answered {status} ({phrase}) without a reason{hint or '.'}"


def _http_code(failure: Failure) -> str | None:
    if _is_context_length(failure.code or failure.type, failure.message):
        return "context_length_exceeded"
    return failure.code


def _is_context_length(code: str | None, message: str) -> bool:
    return bool(_CONTEXT_LENGTH.search(f"{code} {message}"))


def _status_for(failure: Failure) -> int:
    if _is_context_length(failure.code, failure.message):
        return HTTPStatus.BAD_REQUEST
    words = failure.code or f"{failure.type} {failure.message}"
    for pattern, status in _STATUS_OF:
        if pattern.search(words):
            return status
    return HTTPStatus.BAD_GATEWAY


def _passed(headers: Mapping[str, str], max_retry_after: float) -> dict[str, str]:
    """The headers that clients act on or show; ``headers`` are lower case."""
    passed = {
        name: value
        for name, value in headers.items()
        if name in _PASSED or name.startswith("x-ratelimit-")
    }
    wait = headers.get("retry-after", "").strip()
    seconds = float(wait) if _SECONDS.fullmatch(wait) else _until(wait, headers.get("date", ""))
    if seconds is not None and seconds <= max_retry_after:
        passed["retry-after"] = wait if _SECONDS.fullmatch(wait) else str(seconds)
    wait_ms = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(wait_ms) and float(wait_ms) <= max_retry_after * 1000:
        passed["retry-after-ms"] = wait_ms
    return passed


def _until(moment: str, now: str) -> int | None:
    """Seconds from the answer's own ``date``, so that nobody's clock has to be right."""
    try:
        delta = parsedate_to_datetime(moment) - parsedate_to_datetime(now)
    except (TypeError, ValueError):
        return None
    return max(0, math.ceil(delta.total_seconds()))
