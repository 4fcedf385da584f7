from __future__ import annotations

import pytest

from qwen_mitm.translate.outcome import counted_usage, error_object, estimated_usage
from qwen_mitm.wire.chat import Failure, Usage


def test_counted_usage_has_both_details_objects() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=8, reasoning_tokens=3)
    assert counted_usage(usage) == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 14,
    }


def test_estimate_counts_four_characters_as_a_token_and_rounds_up() -> None:
    assert estimated_usage(100, written=9, thought=5) == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 103,
    }


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure("Broken."), "server_error"),
        (Failure("Bad field.", "invalid_request_error"), "invalid_prompt"),
        (Failure("No access.", status=403), "invalid_prompt"),
        (Failure("Too slow.", status=408), "server_error"),
        (Failure("Wait.", status=429), "rate_limit_exceeded"),
        (Failure("Slow down.", code="rate_limit_exceeded"), "rate_limit_exceeded"),
        (Failure("Too long.", code="context_length_exceeded"), "context_length_exceeded"),
    ],
)
def test_only_what_repeating_cannot_heal_is_an_invalid_prompt(failure: Failure, code: str) -> None:
    assert error_object(failure) == {"code": code, "message": failure.message}
