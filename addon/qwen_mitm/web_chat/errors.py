"""What goes wrong with chat.qwen.ai, and what that means for the account (web-chat.md §5.2). Pure.

AccountTrouble
└── WebChatError
    ├── CredentialsMissing   400  no_usable_account
    ├── CredentialsExpired   401  credentials_expired
    ├── CredentialsBlocked   403  credentials_blocked    a page in the answer's place
    ├── RateLimited          429  rate_limit_exceeded
    ├── UnknownModel         404  model_not_found
    ├── NotAccepted          400                          the conversation itself
    ├── ChainBroken          502                          a new chat with the full history heals it
    ├── ProtocolChanged      502  web_chat_changed
    └── Unavailable          5xx  upstream_unavailable
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from qwen_mitm.accounts.resets import HOUR, SECOND, midnight, retry_after
from qwen_mitm.accounts.verdicts import Verdict, VerdictKind
from qwen_mitm.preparing import AccountTrouble
from qwen_mitm.wire.chat import Failure
from qwen_mitm.wire.error_body import read_json, readable

from .events import Refusal, parse_chunk

LOGIN: Final = "Run: qwen-mitm login --provider web-chat"

#: Longer than any limit that has been seen.
_MOST_HOURS: Final = 24 * 31
_LONGEST_DETAILS: Final = 300
_WAF: Final = re.compile(
    r"aliyun_?waf|baxia|captcha|punish|FAIL_SYS_USER_VALIDATE|RGV587_ERROR", re.IGNORECASE
)
_PAGE: Final = re.compile(r"\s*(?:<!doctype|<html|<head|<script|<body|<!--|<meta)", re.IGNORECASE)


_LOGIN_PAGE: Final = re.compile(r"/(?:auth|log-?in|sign-?in)\b", re.IGNORECASE)


class WebChatError(AccountTrouble):
    """``kind`` is what it does to the account."""

    kind: VerdictKind = "transient"
    is_passing = False
    """The same request may work in a moment."""
    retry_after: float | None = None
    """Seconds, when the site names them."""

    def verdict(self, now: int) -> Verdict:
        """What it says about the account; ``now`` in ms since 1970."""
        return Verdict(self.kind, None, self.message)

    def failure(self) -> Failure:
        """The same inside a 200 answer."""
        return Failure(self.message, type=self.type, code=self.code, status=self.status)


class CredentialsMissing(WebChatError):
    status = 400
    type = "invalid_request_error"
    default_code = "no_usable_account"
    kind = "not_entitled"


class CredentialsExpired(WebChatError):
    status = 401
    type = "authentication_error"
    default_code = "credentials_expired"
    kind = "not_entitled"


class CredentialsBlocked(WebChatError):
    status = 403
    type = "permission_error"
    default_code = "credentials_blocked"
    kind = "not_entitled"


class RateLimited(WebChatError):
    """``hours``: until it works again, as the site says. ``daily``: for the rest of its day."""

    status = 429
    # Codex knows exhaustion by this type alone.
    type = "usage_limit_reached"
    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, *, hours: float | None = None, daily: bool = False) -> None:
        super().__init__(message)
        self.hours = hours
        self.daily = daily

    def verdict(self, now: int) -> Verdict:
        if self.hours is not None:
            until = now + round(min(self.hours, _MOST_HOURS) * HOUR)
            return Verdict("window", until, self.message)
        if self.daily:
            return Verdict("window", midnight(now), self.message)
        return Verdict("burst", None, self.message)


class UnknownModel(WebChatError):
    status = 404
    type = "invalid_request_error"
    default_code = "model_not_found"
    kind = "model"

    def verdict(self, now: int) -> Verdict:
        return Verdict("model", None, self.message, "model")


class NotAccepted(WebChatError):
    """The client's own: too long, or against the site's rules."""

    status = 400
    type = "invalid_request_error"
    kind = "client_fault"


class ChainBroken(WebChatError):
    status = 502
    default_code = "web_chat_chain_broken"


class ProtocolChanged(WebChatError):
    status = 502
    default_code = "web_chat_changed"


class Unavailable(WebChatError):
    status = 502
    default_code = "upstream_unavailable"

    def __init__(self, message: str, *, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


def blocked() -> CredentialsBlocked:
    """A page instead of an answer. Nothing here tries to get past it."""
    return CredentialsBlocked(
        "chat.qwen.ai sent a web page, such as a captcha, in the place of an answer: these "
        "credentials are blocked. Open chat.qwen.ai in your browser, and then give the new "
        f"credentials. {LOGIN}"
    )


def is_page(data: bytes) -> bool:
    return bool(_PAGE.match(data[:512].decode("utf-8", "replace").removeprefix("\ufeff")))


def is_firewall(text: str) -> bool:
    return bool(_WAF.search(text))


#: What is worth another try; 401 and 403 are not (web-chat.md §8, §10 defect 7).
RETRIED: Final = frozenset({429, 503, 504})


def refused(status: int, headers: Mapping[str, str], body: bytes) -> WebChatError:
    """The error of an answer that is no 2xx; header names in lower case."""
    error = _refused(status, headers, body)
    if status in RETRIED and isinstance(error, RateLimited | Unavailable):
        until = retry_after(headers, "", 0)
        error.retry_after = None if until is None else until / SECOND
        error.is_passing = error.verdict(0).kind != "window"
    return error


def _refused(status: int, headers: Mapping[str, str], body: bytes) -> WebChatError:
    text = body.decode("utf-8", "replace")
    location = headers.get("location", "")
    page = "html" in headers.get("content-type", "").lower() or is_page(body)
    # A redirection leads to the same page.
    if is_firewall(f"{location} {text}") or (page and status < 500):
        return blocked()
    if status in (401, 403) or (300 <= status < 400 and _LOGIN_PAGE.search(location)):
        return CredentialsExpired(
            f"chat.qwen.ai refused the credentials with {status}: they are expired or were "
            f"revoked. {LOGIN}"
        )
    said = refusal_in(body)
    if status == 429:
        return said if isinstance(said, RateLimited) else RateLimited(_words(body, "rate limited"))
    if said is not None:
        return said
    if status >= 500:
        return Unavailable(f"chat.qwen.ai answered {status}.", status=status)
    return ProtocolChanged(f"chat.qwen.ai answered {status}: {_words(body, 'without a reason')}")


def refusal_in(body: bytes) -> WebChatError | None:
    """The error of a document with ``success: false`` or ``error``; None: there is none."""
    try:
        chunk = parse_chunk(body)
    except ValueError:
        return None
    return None if chunk is None or chunk.refusal is None else refusal_error(chunk.refusal)


_NO_CHAIN: Final = re.compile(
    r"\b(?:parent_?id|chat(?:_?id)?|message|conversation)\b.{0,80}"
    r"(?:(?:\bnot|n['\u2019]t) (?:exist|found)|\bdeleted)",
    re.IGNORECASE,
)
_NO_MODEL: Final = re.compile(r"\bmodel\b.{0,80}\bnot (?:exist|found|support)", re.IGNORECASE)
_LOGGED_OUT: Final = re.compile(
    r"unauthori[sz]ed|not ?log(?:ged)? ?in|log ?in (?:again|first)|token.{0,20}(?:expired|invalid)"
    r"|session[ _](?:expired|invalid)|invalid token",
    re.IGNORECASE,
)
_TOO_LONG: Final = re.compile(
    r"context.?(?:length|window)|range of input length|too long"
    r"|exceeds? the .{0,30}(?:length|context|window)",
    re.IGNORECASE,
)
_RULES: Final = re.compile(r"data_?inspection|inappropriate content|content.{0,10}filter", re.I)
_DAILY: Final = re.compile(r"\bdaily\b|\btoday\b|\bper day\b|upper limit", re.IGNORECASE)
_LIMIT: Final = re.compile(r"rate.?limit|too many|quota|throttl|usage limit", re.IGNORECASE)
_FORM: Final = re.compile(r"^bad_?request\b", re.IGNORECASE)


def refusal_error(refusal: Refusal) -> WebChatError:
    """What the site means; it says so in a code, in words, or in both."""
    details = " ".join(refusal.details.split())[:_LONGEST_DETAILS]
    words = f"{refusal.code} {details}".strip()
    told = details or refusal.code or "no reason"
    if is_firewall(words):
        return blocked()
    is_limit = refusal.num is not None or _LIMIT.search(refusal.code)
    # It may speak of a limit, too, and the account is as good as it was.
    if _TOO_LONG.search(words) and not is_limit:
        return NotAccepted(f"chat.qwen.ai: {told}", code="context_length_exceeded")
    if is_limit or _DAILY.search(words) or _LIMIT.search(words):
        hours = refusal.num if refusal.num and refusal.num > 0 else None
        when = f" It is back in {hours:g} hours." if hours else ""
        message = f"chat.qwen.ai has limited this account: {told}.{when}".replace("..", ".")
        return RateLimited(message, hours=hours, daily=bool(_DAILY.search(words)))
    if _NO_MODEL.search(words):
        return UnknownModel(f"chat.qwen.ai has no such model: {told}")
    if _NO_CHAIN.search(words):
        return ChainBroken(f"chat.qwen.ai no longer has this chat: {told}")
    if _RULES.search(words):
        return NotAccepted(f"chat.qwen.ai: {told}", code="content_filter")
    if _LOGGED_OUT.search(words):
        return CredentialsExpired(f"chat.qwen.ai refused the credentials: {told}. {LOGIN}")
    if _FORM.search(words):
        return ProtocolChanged(
            f"chat.qwen.ai refused the form of the request ({told}): the site has changed, and "
            "this upstream has to be updated."
        )
    return Unavailable(f"chat.qwen.ai answered with an error: {told}")


def _words(body: bytes, otherwise: str) -> str:
    try:
        read_json(body)
    except ValueError:
        return readable(body) or otherwise
    return otherwise
