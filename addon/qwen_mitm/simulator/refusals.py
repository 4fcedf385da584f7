"""Error answers, in the words of Model Studio (qwen.md 2.7)."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

ALGO = "<400> InternalError.Algo.InvalidParameter: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is not a completion."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    """The error document of compatible mode."""
    request_id = str(uuid.uuid4())
    return {
        "error": {"message": message, "type": kind, "param": None, "code": code},
        "id": f"chatcmpl-{request_id}",
        "request_id": request_id,
    }


def refusal(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Refusal:
    body = json.dumps(error_body(message, kind, code), ensure_ascii=False).encode()
    return Refusal(status=status, body=body, headers=headers)


def invalid_parameter(message: str, *, prefix: str = ALGO) -> Refusal:
    return refusal(400, prefix + message, code="invalid_parameter_error")


def unknown_model(model: str) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return refusal(404, message, code="model_not_found")


def unknown_bearer() -> Refusal:
    message = "invalid access token or token expired"
    return refusal(401, message, code="invalid_api_key")


def no_bearer() -> Refusal:
    message = "You didn't provide an API key. Provide it in an Authorization header."
    return refusal(401, message, code="invalid_api_key")


@dataclass(frozen=True, slots=True)
class _Sample:
    status: int
    message: str
    kind: str
    code: str | None


_SAMPLES = {
    "400-inspection": _Sample(
        400,
        "Input data may contain inappropriate content.",
        "data_inspection_failed",
        "data_inspection_failed",
    ),
    "400-arrearage": _Sample(
        400,
        "Access denied, please make sure your account is in good standing.",
        "Arrearage",
        "Arrearage",
    ),
    "400-context": _Sample(
        400,
        ALGO + "Range of input length should be [1, 991808]",
        "invalid_request_error",
        "invalid_parameter_error",
    ),
    "400-repetitive": _Sample(
        400,
        ALGO + "Repetitive tool calls detected",
        "invalid_request_error",
        "invalid_parameter_error",
    ),
    "401": _Sample(
        401, "invalid access token or token expired", "invalid_request_error", "invalid_api_key"
    ),
    "401-key": _Sample(
        401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"
    ),
    "403": _Sample(403, "Model access denied.", "AccessDenied", "model_access_denied"),
    "403-quota": _Sample(
        403, "Free allocated quota exceeded.", "insufficient_quota", "insufficient_quota"
    ),
    "403-key": _Sample(403, "invalid api-key", "invalid_request_error", None),
    "429": _Sample(
        429,
        "Requests rate limit exceeded, please try again later.",
        "limit_requests",
        "Throttling.RateQuota",
    ),
    "429-quota": _Sample(
        429,
        "You exceeded your current quota, please check your plan and billing details. For details,"
        " see: https://help.aliyun.com/zh/model-studio/error-code#token-limit",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "429-free-quota": _Sample(
        429, "Free allocated quota exceeded.", "insufficient_quota", "insufficient_quota"
    ),
    "429-allocation": _Sample(
        429, "Allocated quota exceeded.", "Throttling.AllocationQuota", "Throttling.AllocationQuota"
    ),
    "429-hour": _Sample(429, "hour allocated quota exceeded.", "rate_limit_error", None),
    "429-week": _Sample(429, "week allocated quota exceeded.", "rate_limit_error", None),
    "429-month": _Sample(429, "month allocated quota exceeded.", "rate_limit_error", None),
    "429-concurrency": _Sample(
        429, "concurrency allocated quota exceeded.", "rate_limit_error", None
    ),
    "500": _Sample(
        500, "<500> InternalError.Algo: An internal error has occurred.", "internal_error", None
    ),
    "503": _Sample(
        503, "The service is currently overloaded.", "service_unavailable", "ServiceUnavailable"
    ),
    "504": _Sample(504, "stream timeout", "timeout", "RequestTimeOut"),
    "529": _Sample(529, "The model is overloaded.", "overloaded_error", None),
}

_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>Tengine</center></body></html>\n"
)

OTHER_SHAPES = {
    "404-empty": Refusal(status=404, body=b"", content_type=""),
    "502": Refusal(status=502, body=_PAGE, content_type="text/html"),
    "html": Refusal(status=200, body=_PAGE, content_type="text/html"),
    "empty": Refusal(status=200, body=b"", content_type=""),
    "broken-json": Refusal(status=200, body=b'{"id":"chatcmpl-1","choices":[{"ind'),
    "no-choices": Refusal(status=200, body=b'{"id":"chatcmpl-1","object":"chat.completion"}'),
    "401-native": Refusal(
        status=401,
        body=b'{"code":"InvalidApiKey","message":"Invalid API-key provided.",'
        b'"request_id":"fb53c4ec-1c12-4fc4-a580-cdb7c3261fc1"}',
    ),
    "400-flat": Refusal(
        status=400,
        body=b'{"object":"error","message":"This model\'s maximum context length is 32768 tokens.",'
        b'"type":"BadRequestError","param":null,"code":400}',
    ),
    "422-detail": Refusal(
        status=422,
        body=b'{"detail":[{"loc":["body","messages"],"msg":"field required","type":"missing"}]}',
    ),
    "500-string": Refusal(status=500, body=b'{"error":"the engine stopped"}'),
    "500-text": Refusal(status=500, body=b"upstream connect error", content_type="text/plain"),
    "500-empty": Refusal(status=500, body=b"", content_type=""),
    "200-error": Refusal(
        status=200,
        body=b'{"error":{"message":"The service is currently overloaded.",'
        b'"type":"service_unavailable","param":null,"code":null}}',
    ),
}

NAMES = (*_SAMPLES, "404", *OTHER_SHAPES)


def named(name: str, model: str) -> Refusal:
    """The refusal of that name; KeyError when there is none."""
    if name == "404":
        return unknown_model(model)
    if name in OTHER_SHAPES:
        return OTHER_SHAPES[name]
    sample = _SAMPLES[name]
    return refusal(sample.status, sample.message, kind=sample.kind, code=sample.code)
