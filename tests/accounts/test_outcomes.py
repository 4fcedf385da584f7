import json

import pytest

from qwen_mitm.accounts.outcomes import Facts, classify
from qwen_mitm.accounts.resets import DAY, HOUR, MINUTE, SECOND
from qwen_mitm.accounts.verdicts import Verdict
from qwen_mitm.translate.failure import refusal
from qwen_mitm.wire.error_body import failure_in, read_json

# Friday 2026-11-20 12:00 UTC, which is 20:00 in China.
NOW = 1795176000 * SECOND
MIDNIGHT = NOW + 4 * HOUR
MONDAY = MIDNIGHT + 2 * DAY
DECEMBER = MIDNIGHT + 10 * DAY
ALGO = "<400> InternalError.Algo.InvalidParameter: "
REQUEST_ID = "fb53c4ec-1c12-4fc4-a580-cdb7c3261fc1"


def openai(message: str, kind: str = "invalid_request_error", code: str | None = None) -> bytes:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps(
        {"error": error, "id": "chatcmpl-1", "request_id": REQUEST_ID}, ensure_ascii=False
    ).encode()


def native(code: str, message: str) -> bytes:
    return json.dumps({"code": code, "message": message, "request_id": REQUEST_ID}).encode()


def openrouter(status: int, raw: str) -> bytes:
    metadata = {"raw": raw, "provider_name": "Alibaba"}
    error = {"message": "Provider returned error", "code": status, "metadata": metadata}
    return json.dumps({"error": error, "user_id": "user_fake"}).encode()


def judged(
    status: int,
    body: bytes,
    *,
    provider: str = "dashscope",
    oauth: bool = False,
    refreshed: bool = False,
    headers: dict[str, str] | None = None,
) -> Verdict:
    error = refusal(status, headers or {}, body, max_retry_after=300)
    facts = Facts(
        status=status,
        headers=headers or {},
        message=error.message,
        code=error.code,
        type=error.type,
        provider="portal" if oauth else provider,
        kind="oauth" if oauth else "api_key",
        refreshed=refreshed,
    )
    return classify(facts, NOW)


CLIENT_FAULTS = [
    (400, openai(ALGO + 'messages with role "tool" must be a response to a preceeding message with '
        '"tool_calls".', code="invalid_parameter_error")),
    (400, openai(ALGO + 'An assistant message with "tool_calls" must be followed by tool messages '
        'responding to each "tool_call_id". The following tool_call_ids did not have response '
        "messages: message[15].role", code="invalid_parameter_error")),
    (400, openai(ALGO + "If tool_calls are present in the message, function.arguments must be "
        "defined.", code="invalid_parameter_error")),
    (400, openai(ALGO + "The tool_choice parameter does not support being set to required or object"
        " in thinking mode", code="invalid_parameter_error")),
    (400, openai(ALGO + "Range of input length should be [1, 991808]",
        code="invalid_parameter_error")),
    (400, openai(ALGO + "The input messages do not contain elements with the role of user",
        code="invalid_parameter_error")),
    (400, openai("<400> InternalError.Algo: [Unexpected item type in content.]",
        "invalid_parameter_error", "invalid_parameter")),
    (400, openai("parameter.enable_thinking must be set to false for non-streaming calls",
        code="invalid_parameter_error")),
    (400, openai(ALGO + "Repetitive tool calls detected", code="invalid_parameter_error")),
    (400, openai("Input data may contain inappropriate content.", "data_inspection_failed",
        "data_inspection_failed")),
    (400, native("DataInspectionFailed", "Input data may contain inappropriate content.")),
    (400, b'{"object":"error","message":"This model\'s maximum context length is 32768 tokens.",'
        b'"type":"BadRequestError","param":null,"code":400}'),
    (400, openai("your text: insufficient balance, quota exceeded, invalid api key, rate limit")),
    (413, openai("Payload too large")),
    (422, b'{"detail":[{"loc":["body","messages"],"msg":"field required","type":"missing"}]}'),
    (405, openai("Method not allowed")),
    (403, b'{"error":{"code":403,"message":"Your chosen model requires moderation and your input '
        b'was flagged"}}'),
    (500, openai("<400> InternalError.Algo: Range of input length should be [1, 991808]")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), CLIENT_FAULTS)
@pytest.mark.parametrize("oauth", [False, True])
def test_the_clients_own_fault_is_no_fault_of_the_account(
    status: int, body: bytes, oauth: bool
) -> None:
    verdict = judged(status, body, oauth=oauth)
    assert verdict.kind == "client_fault"
    assert verdict.reason is None


TOKEN_LIMIT = (
    "You exceeded your current quota, please check your plan and billing details. For details, "
    "see: https://help.aliyun.com/zh/model-studio/error-code#token-limit"
)
BAD_STANDING = "Access denied, please make sure your account is in good standing."
BURST = openai("Requests rate limit exceeded, please try again later.", "limit_requests",
    "Throttling.RateQuota")  # fmt: skip

KEYS = [
    (400, openai(BAD_STANDING, "Arrearage", "Arrearage"), "dashscope", "spent", "account", None),
    (403, native("Arrearage", BAD_STANDING), "dashscope", "spent", "account", None),
    (402, b'{"error":{"code":402,"message":"Insufficient credits. Add more using https://openrouter'
        b'.ai/credits"}}', "openrouter", "spent", "model", None),
    (402, openai("Insufficient Balance", "unknown_error"), "generic", "spent", "account", None),
    (401, openai("Incorrect API key provided.", code="invalid_api_key"), "dashscope",
        "not_entitled", "account", None),
    (401, native("InvalidApiKey", "Invalid API-key provided."), "dashscope", "not_entitled",
        "account", None),
    (401, openai("invalid access token or token expired", code="invalid_api_key"), "coding-plan",
        "wrong_host", "account", None),
    (401, openai("invalid access token or token expired"), "coding-plan", "wrong_host", "account",
        None),
    (403, openai("invalid api-key"), "dashscope", "wrong_host", "account", None),
    (401, b'{"error":{"message":"No auth credentials found","code":401}}', "openrouter",
        "not_entitled", "account", None),
    (401, b'{"error":"Unauthorized"}', "vllm", "not_entitled", "account", None),
    (403, openai("Model access denied.", "AccessDenied", "model_access_denied"), "dashscope",
        "model", "model", None),
    (403, native("AccessDenied", "Access denied."), "dashscope", "model", "model", None),
    (404, openai("The model `qwen9` does not exist or you do not have access to it.",
        code="model_not_found"), "dashscope", "model", "model", None),
    (404, native("ModelNotFound", "Model not found."), "dashscope", "model", "model", None),
    (400, native("InvalidParameter", "Model not exist."), "dashscope", "model", "model", None),
    (400, openai("model 'qwen3.5-plus' is not supported"), "coding-plan", "model", "model", None),
    (404, b'{"error":{"message":"No endpoints found for qwen/qwen9.","code":404}}', "openrouter",
        "model", "model", None),
    (404, openai("Model not found, inaccessible, and/or not deployed", code="NOT_FOUND"),
        "generic", "model", "model", None),
    (404, openai("No allowed providers are available for the selected model."), "openrouter",
        "model", "model", None),
    (404, openai("Model qwen9 is not available"), "generic", "model", "model", None),
    (404, openai("unknown model qwen9"), "generic", "model", "model", None),
    (404, openai("model 'qwen 9' not found"), "generic", "model", "model", None),
    (400, openai("model 'qwen 9' not found"), "generic", "model", "model", None),
    (404, openai("There is no such thing as qwen9"), "generic", "model", "model", None),
    (404, b"", "dashscope", "wrong_host", "account", None),
    (405, openai("Coding Plan is currently only available for Coding Agents"), "coding-plan",
        "not_entitled", "account", None),
    (451, openai("Not available in your country"), "generic", "not_entitled", "account", None),
    (400, openai("API key not valid. Please pass a valid API key."), "generic", "not_entitled",
        "account", None),
    (400, openai("invalid access token or token expired"), "coding-plan", "wrong_host", "account",
        None),
    (429, openai("Rate limit exceeded for your context window"), "generic", "burst", "model", None),
    (500, openai("content_filter crashed"), "generic", "transient", "model", None),
    (404, b"404 page not found", "generic", "wrong_host", "account", None),
    (404, b"<html><h1>404 Not Found</h1><hr>nginx/1.27</html>", "generic", "wrong_host", "account",
        None),
    (404, openai("Invalid URL (POST /chat/completions)"), "generic", "wrong_host", "account",
        None),
    (404, b'{"detail":"Not Found"}', "vllm", "wrong_host", "account", None),
    (429, openai("Free allocated quota exceeded.", "insufficient_quota", "insufficient_quota"),
        "dashscope", "spent", "model", None),
    (403, native("AllocationQuota.FreeTierOnly", "The free tier of the model has been exhausted."),
        "dashscope", "spent", "model", None),
    (429, openai(TOKEN_LIMIT, "insufficient_quota", "insufficient_quota"), "dashscope", "burst",
        "model", NOW + MINUTE),
    (429, openai("Allocated quota exceeded.", "Throttling.AllocationQuota",
        "Throttling.AllocationQuota"), "token-plan", "burst", "model", NOW + MINUTE),
    (429, openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
        "generic", "spent", "account", None),
    (429, BURST, "dashscope", "burst", "model", None),
    (429, native("Throttling.RateQuota", "Requests rate limit exceeded"), "dashscope", "burst",
        "model", None),
    (429, openai("Too many requests", code="rate_limit_exceeded"), "generic", "burst", "model",
        None),
    (429, b"", "generic", "burst", "model", None),
    (429, b'{"error":{"message":"Rate limit exceeded: free-models-per-day. Add 10 credits to unlock'
        b' 1000 free model requests per day","code":429}}', "openrouter", "spent", "model", None),
    (429, openai("We have to rate limit you: you have exceeded today's quota for model Qwen/Q"),
        "modelscope", "spent", "model", None),
    (429, openrouter(429, '{"error":{"message":"Requests rate limit exceeded","type":'
        '"limit_requests","code":"limit_requests"}}'), "openrouter", "burst", "model", None),
    (429, openrouter(429, "qwen/qwen3-coder:free is temporarily rate-limited upstream"),
        "openrouter", "burst", "model", None),
    (429, openai("hour allocated quota exceeded.", "rate_limit_error"), "coding-plan", "window",
        "account", NOW + 5 * HOUR),
    (429, openai("week allocated quota exceeded.", "rate_limit_error"), "coding-plan", "window",
        "account", MONDAY),
    (429, openai("month allocated quota exceeded.", "rate_limit_error"), "coding-plan", "window",
        "account", DECEMBER),
    (429, openai("concurrency allocated quota exceeded.", "rate_limit_error"), "coding-plan",
        "concurrency", "account", None),
    (429, openai("Your monthly quota has been exhausted and will reset at 2026-12-11 23:00"),
        "token-plan", "window", "account", NOW + 21 * DAY + 3 * HOUR),
    (500, openai("<500> InternalError.Algo: An internal error has occurred.", "internal_error"),
        "dashscope", "transient", "model", None),
    (502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "dashscope", "transient", "model",
        None),
    (503, openai("The service is currently overloaded.", "service_unavailable",
        "ServiceUnavailable"), "dashscope", "transient", "model", None),
    (504, openai("stream timeout", "timeout", "RequestTimeOut"), "dashscope", "transient", "model",
        None),
    (529, openai("The model is overloaded.", "overloaded_error"), "dashscope", "transient", "model",
        None),
    (408, b"", "generic", "transient", "model", None),
    (403, b"<html><h1>Forbidden</h1></html>", "generic", "transient", "model", None),
    (302, b"", "generic", "transient", "model", None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "provider", "kind", "scope", "until"), KEYS)
def test_a_keys_outcome_is_read_from_status_and_words(
    status: int, body: bytes, provider: str, kind: str, scope: str, until: int | None
) -> None:
    verdict = judged(status, body, provider=provider)
    assert (verdict.kind, verdict.scope, verdict.until) == (kind, scope, until)


LOGINS = [
    (403, openai("Free allocated quota exceeded.", "insufficient_quota", "insufficient_quota"),
        "spent", MIDNIGHT),
    (429, openai(TOKEN_LIMIT, "insufficient_quota", "insufficient_quota"), "spent", MIDNIGHT),
    (429, openai("Free allocated quota exceeded."), "spent", MIDNIGHT),
    (429, BURST, "burst", None),
    (403, openai("unauthorized shard"), "needs_refresh", None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "until"), LOGINS)
def test_the_limits_of_a_login_count_for_all_its_models(
    status: int, body: bytes, kind: str, until: int | None
) -> None:
    verdict = judged(status, body, oauth=True)
    assert (verdict.kind, verdict.scope, verdict.until) == (kind, "account", until)


EXPIRED = openai("invalid access token or token expired", code="invalid_api_key")


def test_a_login_that_is_refused_is_refreshed_once() -> None:
    assert judged(401, EXPIRED, oauth=True).kind == "needs_refresh"
    assert judged(401, EXPIRED, oauth=True, refreshed=True).kind == "not_entitled"


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, EXPIRED), (403, b""), (403, openai("Forbidden")), (403, openai("Access denied"))],
)
def test_other_refusals_of_a_login_are_answered_alike(status: int, body: bytes) -> None:
    assert judged(status, body, oauth=True).kind == "needs_refresh"
    assert judged(status, body, oauth=True, refreshed=True).kind == "not_entitled"


def test_a_login_is_not_blamed_for_a_model_or_for_a_firewall() -> None:
    assert judged(403, openai("Model access denied."), oauth=True).kind == "model"
    page = {"content-type": "text/html"}
    assert judged(403, b"<h1>403 Forbidden</h1>", oauth=True, headers=page).kind == "transient"


def test_a_connection_that_fails_counts_for_the_account() -> None:
    verdict = classify(Facts(status=None, message="Connection refused"), NOW)
    assert (verdict.kind, verdict.scope) == ("transient", "account")


def test_an_answer_without_an_error_is_good() -> None:
    assert classify(Facts(status=200), NOW).kind == "ok"


INSIDE = [
    ({"message": "Requests rate limit exceeded", "code": "limit_requests"}, "burst"),
    ({"message": "hour allocated quota exceeded"}, "window"),
    ({"message": "Free allocated quota exceeded.", "code": "insufficient_quota"}, "spent"),
    ({"message": BAD_STANDING, "code": "Arrearage"}, "spent"),
    ({"message": "invalid access token or token expired"}, "wrong_host"),
    ({"message": "Model not exist.", "code": "ModelNotFound"}, "model"),
    ({"message": "Range of input length should be [1, 991808]"}, "client_fault"),
    ({"message": ALGO + "Repetitive tool calls detected"}, "client_fault"),
    ({"message": "<429> InternalError.Algo.Throttled: too busy"}, "burst"),
    ({"message": "<500> InternalError.Algo: An error has occurred."}, "transient"),
    ({"message": "The service is currently overloaded.", "type": "service_unavailable"},
        "transient"),
    ({"message": "Rate limit exceeded", "code": 429}, "burst"),
    ({"message": "what a day"}, "transient"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind"), INSIDE)
def test_an_error_inside_an_answer_is_classified_by_its_words(
    error: dict[str, object], kind: str
) -> None:
    failure = failure_in(read_json(json.dumps({"error": error}).encode()))
    assert failure is not None
    facts = Facts(
        status=failure.status or 200,
        message=failure.message,
        code=failure.code,
        type=failure.type,
        provider="dashscope",
    )
    assert classify(facts, NOW).kind == kind


@pytest.mark.parametrize(
    ("headers", "until"),
    [
        ({"retry-after": "20"}, NOW + 20 * SECOND),
        ({"retry-after-ms": "1500"}, NOW + 1500),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, NOW + 30 * SECOND),
        ({"retry-after-ms": "259200000"}, NOW + 15 * MINUTE),
        ({"retry-after": "soon"}, None),
    ],
)
def test_a_burst_is_over_when_the_upstream_says_but_never_late(
    headers: dict[str, str], until: int | None
) -> None:
    assert judged(429, BURST, headers=headers).until == until


def test_a_rolling_window_may_end_earlier_if_the_upstream_says_so() -> None:
    body = openai("hour allocated quota exceeded.")
    assert judged(429, body, headers={"retry-after": "1200"}).until == NOW + 20 * MINUTE
    assert judged(429, body, headers={"retry-after": "1"}).until == NOW + 5 * HOUR


def test_the_portals_error_header_counts_as_a_code() -> None:
    verdict = judged(503, b"", headers={"x-error-code": "Throttling.RateQuota"})
    assert verdict.kind == "burst"


def test_a_page_about_a_path_is_not_about_a_model() -> None:
    page = b"<h1>Oops!</h1><p>We looked everywhere.</p>"
    assert judged(404, page, headers={"content-type": "Text/HTML"}).kind == "wrong_host"


def test_an_upstreams_endless_words_are_read_in_part() -> None:
    verdict = judged(429, openai("free tier " * 100_000))
    assert verdict.kind == "burst"
    assert len(verdict.message) <= 200


def test_the_upstreams_words_are_kept_short_and_without_secrets() -> None:
    body = openai("Incorrect API key provided: sk-fake-0123456789. " + "word " * 100)
    message = judged(401, body).message
    assert message.startswith("Incorrect API key provided: …")
    assert "fake" not in message
    assert len(message) <= 200
