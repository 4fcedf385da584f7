"""What the terminal event says besides the output: the usage and the error."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final

from qwen_mitm.translate.failure import client_code, failure_error
from qwen_mitm.wire.chat import Failure, Usage
from qwen_mitm.wire.response_object import JsonObject

# What a token is worth where the upstream did not count: right for English, low for Chinese.
_CHARACTERS_PER_TOKEN: Final = 4

# The other 4xx that may pass when the request is sent again.
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})


def counted_usage(usage: Usage) -> JsonObject:
    """What the upstream counted, with both details objects (responses-to-chat §7.2)."""
    return _usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def estimated_usage(input_tokens: int, *, written: int, thought: int) -> JsonObject:
    """Never null: OpenCode repeats a request without usage for ever (clients.md, Errors 7).

    ``written`` and ``thought`` are the characters of all the output and of the thoughts in it.
    """
    return _usage(
        input_tokens,
        math.ceil(written / _CHARACTERS_PER_TOKEN),
        cached_tokens=0,
        reasoning_tokens=math.ceil(thought / _CHARACTERS_PER_TOKEN),
    )


def _usage(
    input_tokens: int, output_tokens: int, *, cached_tokens: int, reasoning_tokens: int
) -> JsonObject:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }


def error_object(failure: Failure) -> JsonObject:
    """``error`` of a failed response."""
    code = client_code(failure.code, failure.message)
    if code == "server_error":
        # Code and words do not tell, but type and status may. What repeating cannot heal gets the
        # one code at which Codex stops and shows the message (clients.md, Errors 3).
        status = failure_error(failure).status
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            code = "rate_limit_exceeded"
        elif 400 <= status < 500 and status not in _PASSING:
            code = "invalid_prompt"
    return {"code": code, "message": failure.message}
