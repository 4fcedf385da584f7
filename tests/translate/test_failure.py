import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.errors import UpstreamRefused
from qwen_mitm.translate.failure import (
    client_code,
    failure_error,
    refusal,
    with_words_before,
    without_long_wait,
)
from qwen_mitm.wire.chat import ENDED_WITH_AN_ERROR, ERROR_FINISH, Failure


def refused(status: int, body: bytes = b"", **headers: str) -> UpstreamRefused:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(status, named, body, max_retry_after=60)


def passed(headers: Mapping[str, str]) -> dict[str, str]:
    return refusal(429, headers, b"", max_retry_after=60).headers


@pytest.mark.parametrize(
    ("status", "body", "message", "type_", "param", "code"),
    [
        (
            400,
            b'{"error": {"message": "no", "type": "t", "param": "p", "code": "c"},'
            b' "request_id": ""}',
            *("no", "t", "p", "c"),
        ),
        (
            404,
            b'{"object": "error", "message": "no", "type": "NotFoundError", "code": 404}',
            *("no", "NotFoundError", None, None),
        ),
        (
            401,
            b'{"code": "InvalidApiKey", "message": "no", "request_id": "r"}',
            *("no", "authentication_error", None, "invalid_api_key"),
        ),
        (
            422,
            b'{"detail": [{"loc": ["body", "model"], "msg": "Field required", "type": "missing"}]}',
            *("model: Field required", "invalid_request_error", "model", None),
        ),
        (404, b'{"detail": "Not Found"}', "Not Found", "invalid_request_error", None, None),
        (404, b'{"error": "no model"}', "no model", "invalid_request_error", None, None),
        (
            429,
            b'{"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw":'
            b' "{\\"error\\": {\\"message\\": \\"slow\\", \\"code\\": \\"limit_requests\\"}}"}}}',
            *("slow", "rate_limit_error", None, "rate_limit_exceeded"),
        ),
        (503, b"busy\n", "busy", "server_error", None, None),
        (
            502,
            b"<html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>",
            *("Bad gateway", "server_error", None, None),
        ),
        (500, b'{"foo": 1}', '{"foo": 1}', "server_error", None, None),
    ],
)
def test_every_shape_of_a_refusal_becomes_the_shape_of_openai(
    status: int, body: bytes, message: str, type_: str, param: str | None, code: str | None
) -> None:
    error = refused(status, body)
    assert error.status == status
    assert json.loads(error.body()) == {
        "error": {"message": message, "type": type_, "param": param, "code": code}
    }


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b"[]", b"null", b'""', b"<p></p>"])
def test_refusal_without_a_reason_says_so(body: bytes) -> None:
    message = "The upstream answered 403 (Forbidden) without a reason."
    assert refused(403, body).message == message


def test_empty_404_points_at_the_base_url() -> None:
    assert "base URL" in refused(404).message


def test_unknown_status_is_kept() -> None:
    error = refused(529)
    assert (error.status, error.type) == (529, "server_error")


@pytest.mark.parametrize("status", [101, 204, 302, 600, 999])
def test_status_that_is_no_refusal_is_a_bad_gateway(status: int) -> None:
    error = refused(status, b"moved")
    assert (error.status, error.type) == (502, "server_error")


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (
            302,
            {"location": "https://login.example.com/sso/start?token=fake-secret#x"},
            "The upstream answered 302 (Found) and points to login.example.com/sso/start; "
            "is the account's base URL right?",
        ),
        (
            308,
            {"Location": "//user:fake-secret@example.com:8443"},
            "The upstream answered 308 (Permanent Redirect) and points to example.com:8443; "
            "is the account's base URL right?",
        ),
        (
            301,
            {"location": "/v1/chat/completions/"},
            "The upstream answered 301 (Moved Permanently) and points to /v1/chat/completions/; "
            "is the account's base URL right?",
        ),
        (
            307,
            {},
            "The upstream answered 307 (Temporary Redirect) without a reason; "
            "is the account's base URL right?",
        ),
        (
            302,
            {"location": "http://[broken"},
            "The upstream answered 302 (Found) without a reason; is the account's base URL right?",
        ),
    ],
)
def test_a_redirection_says_where_it_points(
    status: int, headers: dict[str, str], message: str
) -> None:
    error = refusal(status, headers, b"<h1>Moved</h1>", max_retry_after=60)
    assert (error.status, error.type, error.message) == (502, "server_error", message)


def test_a_status_that_is_no_refusal_is_named() -> None:
    assert refused(204).message == "The upstream answered 204 (No Content) without a reason."


@given(st.integers(400, 599), st.binary(max_size=60))
def test_any_body_becomes_a_json_error_with_a_message(status: int, body: bytes) -> None:
    error = refused(status, body)
    assert json.loads(error.body())["error"]["message"]
    assert error.status == status


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("invalid_request_error", "This model's maximum context length is 4096 tokens."),
        ("invalid_parameter_error", "<400> x: Range of input length should be [1, 991808]"),
        (None, "The prompt (5 tokens) is longer than the model's context length (4)."),
        (None, "the request exceeds the available context size, try increasing it"),
        (None, "Requested token count exceeds the model's maximum context length of 131072 tokens"),
        (None, "The decoder prompt (length 9) is longer than the maximum model length of 8."),
        (None, "The number of tokens to keep is greater than the context length"),
        (None, "prompt too long; exceeded max context length by 4 tokens"),
        (None, "Your input exceeds the context window of this model."),
        (None, "Input length 9 exceeds the maximum allowed input length of 8 tokens"),
        ("invalid_request_error", "Your request exceeded model token limit: 8 (requested: 9)"),
        (None, "invalid params, context window exceeds limit"),
        (None, "Prompt exceeds max length"),
        ("context_length_exceeded", "no"),
        ("exceed_context_size_error", "no"),
        ("model_context_window_exceeded", "no"),
    ],
)
def test_words_for_a_full_context_become_the_code_that_makes_clients_compact(
    code: str | None, message: str
) -> None:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    assert refused(400, body).code == "context_length_exceeded"
    error = failure_error(Failure(message, code=code))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert client_code(code, message) == "context_length_exceeded"


def test_llama_cpp_names_a_full_context_in_the_type() -> None:
    body = b'{"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}}'
    assert refused(400, body).code == "context_length_exceeded"


def test_range_of_max_tokens_is_no_full_context() -> None:
    message = "Range of max_tokens should be [1, 65536]"
    assert client_code("invalid_parameter_error", message) == "invalid_prompt"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "5"}, {"retry-after": "5"}),
        ({"retry-after": "60"}, {"retry-after": "60"}),
        ({"retry-after": "1.5"}, {"retry-after": "1.5"}),
        ({"retry-after": "61"}, {}),
        ({"retry-after": "-1"}, {}),
        ({"retry-after": "soon"}, {}),
        ({"retry-after": "nan"}, {}),
        ({"retry-after": ""}, {}),
        ({"retry-after-ms": "1500"}, {"retry-after-ms": "1500"}),
        ({"retry-after-ms": "60001"}, {}),
        (
            {
                "retry-after": "Fri, 20 Nov 2026 12:00:30 GMT",
                "date": "Fri, 20 Nov 2026 12:00:00 GMT",
            },
            {"retry-after": "30"},
        ),
        (
            {
                "retry-after": "Fri, 20 Nov 2026 11:00:00 GMT",
                "date": "Fri, 20 Nov 2026 12:00:00 GMT",
            },
            {"retry-after": "0"},
        ),
        (
            {
                "retry-after": "Fri, 20 Nov 2026 13:00:00 GMT",
                "date": "Fri, 20 Nov 2026 12:00:00 GMT",
            },
            {},
        ),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, {}),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 -0000", "date": "Fri, 20 Nov 2026 GMT"}, {}),
        (
            {"X-RateLimit-Remaining-Requests": "0", "X-Request-Id": "r", "x-error-code": "c"},
            {"x-ratelimit-remaining-requests": "0", "x-request-id": "r", "x-error-code": "c"},
        ),
        ({"set-cookie": "a=b", "content-length": "5", "server": "x", "www-authenticate": "y"}, {}),
    ],
)
def test_headers_that_clients_act_on_are_passed_and_no_others(
    headers: dict[str, str], expected: dict[str, str]
) -> None:
    assert passed(headers) == expected


@pytest.mark.parametrize(
    ("failure", "status", "type_"),
    [
        (Failure("no", "rate_limit_error", status=429), 429, "rate_limit_error"),
        (Failure("no", status=503), 503, "server_error"),
        (Failure("no", code="invalid_api_key"), 401, "authentication_error"),
        (Failure("no", code="AccessDenied"), 403, "permission_error"),
        (Failure("no", code="ModelNotFound"), 404, "invalid_request_error"),
        (Failure("no", code="Throttling.RateQuota"), 429, "rate_limit_error"),
        (Failure("no", code="insufficient_quota", type="t"), 429, "t"),
        (Failure("no", code="data_inspection_failed"), 400, "invalid_request_error"),
        (Failure("no", code="Arrearage"), 400, "invalid_request_error"),
        (Failure("no", type="overloaded_error"), 503, "overloaded_error"),
        (Failure("Throttling: requests"), 429, "rate_limit_error"),
        (Failure("Throttled, requests too fast"), 429, "rate_limit_error"),
        (Failure("no"), 502, "server_error"),
        (Failure("no", code="whatever"), 502, "server_error"),
    ],
)
def test_failure_inside_an_answer_gets_the_status_that_it_means(
    failure: Failure, status: int, type_: str
) -> None:
    error = failure_error(failure)
    assert (error.status, error.type) == (status, type_)
    assert error.told == (failure.code, type_)
    assert error.message == failure.message


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (429, "Throttling.RateQuota", "Requests rate limit exceeded.", "rate_limit_exceeded"),
        (429, "limit_requests", "no", "rate_limit_exceeded"),
        (429, "Throttling", "no", "rate_limit_exceeded"),
        (429, None, "concurrency allocated quota exceeded", "rate_limit_exceeded"),
        (429, None, "no", "rate_limit_exceeded"),
        (429, "slow_down", "no", "slow_down"),
        (429, "Throttling.AllocationQuota", "no", "insufficient_quota"),
        (429, None, "hour allocated quota exceeded", "insufficient_quota"),
        (429, "x", "week allocated quota exceeded", "insufficient_quota"),
        (403, "AllocationQuota.FreeTierOnly", "no", "insufficient_quota"),
        (403, "AccessDenied", "no", "AccessDenied"),
        (402, None, "Insufficient credits", "insufficient_quota"),
        (401, "InvalidApiKey", "no", "invalid_api_key"),
        (401, None, "no", None),
        (404, "ModelNotFound", "no", "model_not_found"),
        (404, None, "no", None),
        (400, "DataInspectionFailed", "no", "DataInspectionFailed"),
        (503, "ServiceUnavailable", "no", "ServiceUnavailable"),
        (503, "server_is_overloaded", "no", "server_is_overloaded"),
    ],
)
def test_a_refusal_has_the_code_that_clients_act_on_and_remembers_the_hosts(
    status: int, code: str | None, message: str, expected: str | None
) -> None:
    error = refused(status, json.dumps({"error": {"message": message, "code": code}}).encode())
    inside = failure_error(Failure(message, "server_error", code, status=status))

    assert (error.status, error.code) == (inside.status, inside.code) == (status, expected)
    assert error.told is not None
    assert error.told[0] == code
    assert (error.type == "insufficient_quota") == (expected == "insufficient_quota")


@pytest.mark.parametrize(
    "code",
    [
        "insufficient_quota",
        "rate_limit_exceeded",
        "server_is_overloaded",
        "slow_down",
        "invalid_prompt",
        "usage_not_included",
        "bio_policy",
        "cyber_policy",
    ],
)
def test_codes_that_clients_know_are_kept(code: str) -> None:
    assert client_code(code, "no") == code


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (None, "no", "server_error"),
        ("whatever", "no", "server_error"),
        ("upstream_timeout", "no", "server_error"),
        ("Throttling.RateQuota", "no", "rate_limit_exceeded"),
        ("Throttling.AllocationQuota", "no", "insufficient_quota"),
        (None, "Throttling.RateQuota: too fast", "rate_limit_exceeded"),
        (None, "Throttled, requests too fast", "rate_limit_exceeded"),
        ("error_finish", "no", "rate_limit_exceeded"),
        ("error_finish", "Throttled, requests too fast", "rate_limit_exceeded"),
        ("error_finish", "The model is overloaded", "server_is_overloaded"),
        ("error_finish", "Output data_inspection_failed", "invalid_prompt"),
        ("overloaded_error", "no", "server_is_overloaded"),
        ("invalid_parameter_error", "no", "invalid_prompt"),
        ("DataInspectionFailed", "no", "invalid_prompt"),
        ("invalid_api_key", "no", "invalid_prompt"),
    ],
)
def test_other_codes_become_what_clients_act_on(
    code: str | None, message: str, expected: str
) -> None:
    assert client_code(code, message) == expected


@pytest.mark.parametrize("code", ["quota_exceeded", "no_usable_account", "translation_fault"])
def test_our_own_final_errors_stop_codex_in_mid_stream(code: str) -> None:
    assert client_code(code, "No account can be used.") == "invalid_prompt"


@pytest.mark.parametrize(
    ("words", "status", "type_", "code"),
    [
        ("Sorry.", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("Throttled, requests too fast", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("The model is overloaded.", 503, "server_error", "server_is_overloaded"),
    ],
)
def test_an_error_in_the_place_of_the_answer_is_throttling_unless_its_words_say_otherwise(
    words: str, status: int, type_: str, code: str
) -> None:
    error = failure_error(Failure(words, code=ERROR_FINISH))
    assert (error.status, error.type, error.code) == (status, type_, code)


@pytest.mark.parametrize(
    ("before", "words", "message"),
    [
        ("", "Throttled.", "Throttled."),
        ("Throttled, ", "requests too fast", "Throttled, requests too fast"),
        ("[Throttling] Please", " try again later.", "[Throttling] Please try again later."),
        ("Throttled", "", "Throttled"),
        ("Hello", "Request throttled: too many tokens.", "Request throttled: too many tokens."),
        ("Throttled. ", "Please wait.", "Throttled. Please wait."),
        ("long " * 100, "internal error", "internal error"),
        ("long " * 100, "", "The upstream ended its answer with an error."),
        (" \n", "", "The upstream ended its answer with an error."),
        ("", "", "The upstream ended its answer with an error."),
    ],
)
def test_the_words_of_an_error_may_have_come_as_the_answer(
    before: str, words: str, message: str
) -> None:
    failure = Failure(words, code=ERROR_FINISH) if words else ENDED_WITH_AN_ERROR
    assert with_words_before(failure, before).message == message


def test_only_an_error_in_the_place_of_the_answer_has_words_there() -> None:
    failure = Failure("no")
    assert with_words_before(failure, "Hello") is failure


@pytest.mark.parametrize(
    ("message", "passed"),
    [
        ("Please try again in 1.5s.", "Please try again in 1.5s."),
        ("Limited. Please try again in 3600s.", "Limited. Try again when the limit is over."),
        ("try again in 2 hours", "Try again when the limit is over"),
        ("Retry again after 900 ms", "Retry again after 900 ms"),
        ("try again in 5 minutes.", "Try again when the limit is over."),
    ],
)
def test_a_wait_that_codex_would_sleep_through_is_not_named(message: str, passed: str) -> None:
    assert without_long_wait(message, 60) == passed
