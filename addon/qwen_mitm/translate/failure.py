"""The upstream's refusals in the words and numbers that a Responses client acts on.

Clients decide by HTTP status, ``retry-after`` and ``error.code`` (responses-to-chat §10, §11).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from qwen_mitm.errors import UpstreamRefused
from qwen_mitm.wire.chat import ENDED_WITH_AN_ERROR, ERROR_FINISH, Failure
from qwen_mitm.wire.error_body import failure_in, read_json, readable, type_for

_CONTEXT_LENGTH: Final = re.compile(
    r"context_length_exceeded|exceed_context_size_error|model_context_window_exceeded"
    r"|maximum context length|exceeded (?:max )?context length|greater than the context length"
    r"|model's context length|longer than the maximum model length"
    r"|Range of input length should be|exceeds max length|maximum allowed input length"
    r"|exceeds the available context size|exceeds the context window|context window exceeds limit"
    r"|exceeded model token limit",
    re.IGNORECASE,
)
# What no waiting within a turn refills (qwen.md §2.7), and what OpenAI calls it, code and type.
_SPENT: Final = re.compile(
    r"Throttling\.AllocationQuota|free_?tier_?only|(?:free|hour|week|month) allocated quota"
    r"|insufficient (?:credits|balance|funds)",
    re.IGNORECASE,
)
_QUOTA: Final = "insufficient_quota"
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
        (r"insufficient_quota|quota|throttl|rate_limit|limit_requests|too many requests", 429),
        (r"overloaded|slow_down|unavailable", 503),
        (r"invalid_?parameter|invalid_request|invalid_prompt|data_?inspection|arrearage", 400),
    )
)
# An error of more words than these is an answer that an error broke off.
_LONGEST_ERROR: Final = 400
_BEGINS_AN_ERROR: Final = re.compile(r"[\[<{A-Z]")
_PASSED: Final = frozenset({"x-request-id", "x-error-code"})
_TRY_AGAIN: Final = re.compile(
    r"(?:please )?(?:try|retry) again (?:in|after) (\d+(?:\.\d+)?) ?(ms|s|m|h|d)[a-z]*",
    re.IGNORECASE,
)
_OF_LIMITS: Final = frozenset({402, 403, 429})
_UNITS: Final = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0))
_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?")


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, max_retry_after: float
) -> UpstreamRefused:
    """The upstream's 4xx or 5xx in OpenAI's shape; another status, which is no answer, is a 502.

    A wait beyond ``max_retry_after`` seconds is not passed on: clients sleep that long in silence.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if 400 <= status < 600:
        failure = _failure(status, body)
    else:
        failure = Failure(_no_reason(status, lower.get("location", "")))
        status = HTTPStatus.BAD_GATEWAY
    failure = replace(failure, message=without_long_wait(failure.message, max_retry_after))
    return _refused(failure, status, failure.type, _passed(lower, max_retry_after))


def without_long_wait(message: str, longest: float) -> str:
    """Codex sleeps for as long as a message says "try again in" (clients.md, rules 4 and 5)."""

    def shortened(found: re.Match[str]) -> str:
        unit = found[2].lower()
        seconds = float(found[1]) * next(s for name, s in _UNITS if unit.startswith(name))
        return found[0] if seconds <= longest else "Try again when the limit is over"

    return _TRY_AGAIN.sub(shortened, message)


def failure_error(failure: Failure) -> UpstreamRefused:
    """The HTTP error for a failure that came inside a 200 answer, before any output."""
    status = failure.status or _status_for(failure)
    type_ = failure.type
    if type_ == "server_error" and status < 500:
        type_ = type_for(status)
    return _refused(failure, status, type_, {})


def with_words_before(failure: Failure, text: str) -> Failure:
    """The failure with the text of the message so far, where that belongs to its words.

    Some hosts send the words of an ``error_finish`` in pieces, as an answer comes. Nothing marks
    the first ones; but an error is short, and one that comes whole has a beginning and tells.
    """
    if failure.code != ERROR_FINISH or not text.strip() or len(text) > _LONGEST_ERROR:
        return failure
    if failure == ENDED_WITH_AN_ERROR:
        return replace(failure, message=text)
    if _BEGINS_AN_ERROR.match(failure.message) and _telling_status(failure.message):
        return failure
    return replace(failure, message=text + failure.message)


def client_code(code: str | None, message: str) -> str:
    """``error.code`` of ``response.failed``.

    What no repetition heals is ``invalid_prompt``, the one code at which Codex shows the message
    and stops; it sends the request six times at a code that it does not know.
    """
    if _is_context_length(code, message):
        return "context_length_exceeded"
    if code in _KEPT_CODES:
        return code
    if _SPENT.search(f"{code} {message}"):
        return _QUOTA
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


def _no_reason(status: int, location: str = "") -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus else "unknown status"
    where = _host_and_path(location)
    hint = "is the base URL right?" if status == HTTPStatus.NOT_FOUND else ""
    if 300 <= status < 400:
        hint = "is the account's base URL right?"
    reason = f" and points to {where}" if where else " without a reason"
    return f"The upstream answered {status} ({phrase}){reason}{f'; {hint}' if hint else '.'}"


def _host_and_path(location: str) -> str:
    """Without what may be secret: a name and a password, the query, the fragment."""
    try:
        url = urlsplit(location.strip())
    except ValueError:
        return ""
    return url.netloc.rpartition("@")[2] + url.path


def _refused(
    failure: Failure, status: int, type_: str, headers: Mapping[str, str]
) -> UpstreamRefused:
    code = _http_code(failure, status)
    error = UpstreamRefused(
        failure.message,
        status=status,
        # OpenAI has it in both places.
        type=_QUOTA if code == _QUOTA != failure.code else type_,
        param=failure.param,
        code=code,
        headers=headers,
    )
    error.told = (failure.code, type_)
    return error


def _http_code(failure: Failure, status: int) -> str | None:
    """The code that clients know for it; a host's own where OpenAI has none."""
    code, words = failure.code, f"{failure.code} {failure.message}"
    if _is_context_length(code or failure.type, failure.message):
        return "context_length_exceeded"
    if code == ERROR_FINISH:
        return client_code(code, failure.message)
    if code in _KEPT_CODES:
        return code
    if status in _OF_LIMITS and _SPENT.search(words):
        return _QUOTA
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return _QUOTA if failure.type == _QUOTA else "rate_limit_exceeded"
        case HTTPStatus.UNAUTHORIZED if _telling_status(f"{code}") == status:
            return "invalid_api_key"
        case HTTPStatus.NOT_FOUND if _telling_status(f"{code} {failure.type}") == status:
            return "model_not_found"
    return code


def _is_context_length(code: str | None, message: str) -> bool:
    return bool(_CONTEXT_LENGTH.search(f"{code} {message}"))


def _status_for(failure: Failure) -> int:
    if _is_context_length(failure.code, failure.message):
        return HTTPStatus.BAD_REQUEST
    if failure.code == ERROR_FINISH:
        return _telling_status(failure.message) or HTTPStatus.TOO_MANY_REQUESTS
    words = failure.code or f"{failure.type} {failure.message}"
    return _telling_status(words) or HTTPStatus.BAD_GATEWAY


def _telling_status(words: str) -> int | None:
    return next((status for pattern, status in _STATUS_OF if pattern.search(words)), None)


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
