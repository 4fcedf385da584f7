"""What can go wrong, in the words that a client understands.

    BridgeError                 500  server_error
    ├── InvalidRequest          400  invalid_request_error   the client's request, names the field
    ├── RequestTooLarge         413  invalid_request_error
    ├── Unauthorized            401  authentication_error    the local key is missing or wrong
    ├── NoUsableAccount         400  invalid_request_error   nothing to send the request with
    ├── AccountFileError        500  server_error            it cannot be locked or written
    ├── UsageLimitReached       429  usage_limit_reached     every account is limited for a while
    ├── QuotaSpent              400  usage_limit_reached     every account is limited for long
    ├── UpgradeRefused          426  invalid_request_error   WebSocket is off
    ├── TooManyTurns            429  invalid_request_error   on one WebSocket
    ├── UpstreamRefused         any  as the upstream said    its own answer, in OpenAI's shape
    ├── UpstreamUnreachable     502  server_error
    ├── UpstreamTimeout         504  server_error
    ├── ProxyStopped            503  server_error            clients try again
    └── TranslationFault        500  server_error            our own bug; nothing was sent

AccountFileError is in accounts/files.py, the two of limits are in accounts/exhausted.py.

Every body is ``{"error": {"message", "type", "param", "code"}}`` with all four keys
(responses-to-chat §11). Messages name the field or the account and say what to do; a fatal one has
no word that makes a client try again (OpenCode matches words such as "internal error").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar


class BridgeError(Exception):
    """An answer to the client that is not the model's.

    ``headers`` are extra response headers, lower case (``retry-after``, ``x-request-id`` …).
    """

    status: int = 500
    type: str = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.headers = dict(headers or {})
        self.told: tuple[str | None, str] | None = None
        """The upstream's own code and type, which tell more of the account than OpenAI's do."""

    def body(self) -> bytes:
        """The JSON body, UTF-8."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}, ensure_ascii=False).encode()


class InvalidRequest(BridgeError):
    """The client's request cannot be carried out as it stands; nothing was sent upstream."""

    status = 400
    type = "invalid_request_error"


class RequestTooLarge(BridgeError):
    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class Unauthorized(BridgeError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class NoUsableAccount(BridgeError):
    """Nothing to send the request with. 400, because clients show that at once, without a retry."""

    status = 400
    type = "invalid_request_error"
    default_code = "no_usable_account"


class UpgradeRefused(BridgeError):
    """Codex falls back to HTTP at once on 426, and only on 426 (responses-to-chat §13)."""

    status = 426
    type = "invalid_request_error"
    default_code = "websocket_not_supported"


class TooManyTurns(BridgeError):
    status = 429
    type = "invalid_request_error"
    default_code = "too_many_pending_responses"


class UpstreamRefused(BridgeError):
    """The upstream's own refusal, with its status, in OpenAI's shape."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,  # noqa: A002 - the name of the field in OpenAI's error object
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, headers=headers)
        self.status = status
        self.type = type


class UpstreamUnreachable(BridgeError):
    status = 502
    default_code = "upstream_unreachable"


class ProxyStopped(BridgeError):
    """The proxy ends. OpenCode, Codex and the SDKs repeat what is answered so (clients.md)."""

    status = 503
    default_code = "server_error"

    def __init__(self) -> None:
        super().__init__(
            "qwen-mitm was stopped before the answer was complete. Start it again, and repeat the "
            "request.",
            headers={"retry-after": "2"},
        )


class UpstreamTimeout(BridgeError):
    status = 504
    default_code = "upstream_timeout"


class TranslationFault(BridgeError):
    """A bug of ours. The words are clean of "internal error", which OpenCode would repeat."""

    default_code = "translation_fault"
