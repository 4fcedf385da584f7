"""What an attempt's end says about the account that it was made with (qwen.md §2.7). Pure.

What cools all models of an account: connections that fail, windows and concurrency of a plan,
arrears, a credential or host that is wrong, limits of an OAuth login. What cools one model: rate
limits, free quotas and 5xx of a key's host, and a model that the account does not have. A client's
own fault cools nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from .resets import MINUTE, first_of_month, midnight, monday, named_reset, retry_after
from .verdicts import LONGEST_BURST, LONGEST_CONCURRENCY, LONGEST_TRANSIENT, OK, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How an attempt ended.

    ``status`` is None when the connection failed, and 200 for an error inside an answer that named
    no status. Names of ``headers`` are lower case. ``provider`` is the name of a profile.
    ``refreshed``: the access token was redeemed for this very attempt.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    code: str | None = None
    type: str | None = None
    provider: str = "generic"
    kind: Literal["oauth", "api_key"] = "api_key"
    refreshed: bool = False


#: Hosts whose limits are those of Model Studio.
_DASHSCOPE: Final = frozenset({"dashscope", "coding-plan", "token-plan"})
# A minute: https://www.alibabacloud.com/help/en/model-studio/rate-limit
_TOKENS_PER_MINUTE: Final = MINUTE
_LONGEST_MESSAGE: Final = 200
#: Of an upstream's words; it may send any amount of them.
_READ: Final = 2000


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_CLIENT: Final = _any(
    r"context_length_exceeded|exceed_context_size|maximum context length",
    r"model's context length|range of input length|context size|context window",
    r"data_?inspection|content_?filter|inappropriate content|your input was flagged",
    r"invalid_?parameter|invalid_request_error: ",
)
_ARREARS: Final = _any(
    r"arrearage", r"bill_?overdue", r"account is in good standing", r"insufficient (balance|funds)"
)
_WINDOW: Final = _any(r"\b(hour|week|month) allocated quota exceeded")
_CONCURRENCY: Final = _any(r"\bconcurrency allocated quota exceeded")
_EXHAUSTED: Final = _any(r"quota has been exhausted")
_FREE: Final = _any(
    r"free allocated quota", r"free_?tier_?only", r"free (tier|quota)\b.*\bexhausted"
)
_DAILY: Final = _any(r"\bper[- ]day\b", r"\bdaily\b", r"\btoday'?s? quota")
_PER_MINUTE: Final = _any(
    r"throttling\.allocationquota", r"allocated quota exceeded", r"token-limit", r"tokens? per min"
)
_CREDIT: Final = _any(r"insufficient_quota", r"exceeded your current quota", r"payment required")
_BURST: Final = _any(
    r"throttling", r"rate.?limit", r"limit_requests", r"too many requests", r"slow_down", r"\bquota"
)
_DEAD_KEY: Final = _any(
    r"incorrect api.?key provided", r"invalid api.?key provided", r"api.?key not valid"
)
_AUTH: Final = _any(
    r"invalid[ _]?api[-_ ]?key",
    r"invalid access token|token (has )?expired|invalid_token",
    r"unauthori[sz]ed|authentication|no auth credentials|user not found",
)
_FORBIDDEN: Final = _any(r"\bforbidden\b", r"\baccess denied\b")
#: A 400 that begins so is about the credential.
_BEGINS_AUTH: Final = _any(r"^api key not valid\b", r"^invalid access token or token expired")
_WRONG_CLIENT: Final = _any(r"only available for coding agents")
_NO_MODEL: Final = _any(
    r"model[_ ]?not[_ ]?found|model_?not_?supported|model not exist|is not a valid model",
    r"\bmodel:? ([`'\"][^`'\"]{1,200}[`'\"]|[\w./:@-]+) "
    r"(is not|not|does not|doesn't) (supported|found|exist|available)",
    r"\bunknown model\b|no allowed providers are available",
)
#: What servers say of paths that they do not have.
_NO_PATH: Final = _any(
    r"without a reason|\bno body\b",
    r"^(404\W*)?((page|path|route|url|endpoint) )?not found\W*([\w-]+(/[\d.]+)?)?\W*$",
    r"^cannot (post|get) /|^invalid url\b|requested (url|path)\b",
)
_MODEL: Final = _any(
    _NO_MODEL.pattern, r"access_?denied", r"model access denied", r"no endpoints found"
)
_GOOD_STANDING: Final = _any(r"^access denied, please make sure your account is in good standing")
#: Further into the message of a 400 may be the request's own words.
_OWN_WORDS: Final = 100
_UNHEALTHY: Final = frozenset({403, 408, 425})
_STATUS_IN_TEXT: Final = re.compile(r"<([45]\d\d)>")
# As hosts quote them back: sk-…, and the three parts of a JSON web token.
_SECRET: Final = re.compile(r"\b(?:sk|ms)-[\w*.-]+|\beyJ[\w.-]+|\bBearer\s+\S+", re.IGNORECASE)


def classify(facts: Facts, now: int) -> Verdict:
    """What the outcome means for the account. Never raises: unknown words are decided by status."""
    message = _short(facts.message)
    facts = replace(facts, message=facts.message[:_READ])
    if facts.status is None:
        return Verdict("transient", None, message)
    name = f"{facts.code or ''} {facts.type or ''} {facts.headers.get('x-error-code', '')}".strip()
    inside = 200 <= facts.status < 300
    if inside and not name and not facts.message:
        return OK
    status = _own_status(facts.message) if inside else facts.status
    words = f"{name} {facts.message}"
    verdict = _by_words(facts, status, name, words, now) or _by_status(facts, status, now)
    return Verdict(verdict.kind, verdict.until, message, verdict.scope)


def _by_words(facts: Facts, status: int | None, name: str, words: str, now: int) -> Verdict | None:
    """``status`` is None for an error inside a 200, of which the words are all there is."""
    if status in (400, 413, 422):
        # These quote the request, so that only what the upstream itself says counts.
        return _refused_request(facts, name)
    if status == 451 or (status in (None, 403, 405) and _WRONG_CLIENT.search(words)):
        return Verdict("not_entitled")
    if not _is_the_hosts(status, facts.message) and _CLIENT.search(words):
        return Verdict("client_fault")
    if status in (None, 402, 403, 429):
        verdict = _quota(facts, words, now)
        if verdict is not None:
            return verdict
    if status == 401 or (status in (None, 403) and _AUTH.search(words)):
        return _credential(facts, words)
    if status in (None, 403, 404) and _MODEL.search(words):
        return Verdict("model", scope="model")
    if _is_refused_login(facts, status):
        return _credential(facts, words)
    if status == 429 or (status in (None, 503) and _BURST.search(words)):
        return Verdict("burst", _capped(facts, now, LONGEST_BURST), scope=_limited(facts))
    return None


def _is_the_hosts(status: int | None, message: str) -> bool:
    """A limit or a failure, whatever of the request its words quote."""
    if status is None or (status != 429 and status < 500):
        return False
    # Model Studio's own status in the words counts more than that of its gateway.
    return _own_status(message) not in (400, 413, 422)


def _is_refused_login(facts: Facts, status: int | None) -> bool:
    """A page is by a firewall, which knows nothing of the token (qwen.md §2.7)."""
    if facts.kind != "oauth" or status != 403 or _is_page(facts):
        return False
    return bool(_FORBIDDEN.search(facts.message))


def _refused_request(facts: Facts, name: str) -> Verdict:
    if re.search("arrearage", name, re.IGNORECASE) or _GOOD_STANDING.search(facts.message):
        return Verdict("spent")
    if _BEGINS_AUTH.search(facts.message):
        return _credential(facts, facts.message)
    if re.match("throttling", name, re.IGNORECASE):
        return Verdict("burst", scope=_limited(facts))
    if _NO_MODEL.search(f"{name} {facts.message[:_OWN_WORDS]}"):
        return Verdict("model", scope="model")
    return Verdict("client_fault")


def _quota(facts: Facts, words: str, now: int) -> Verdict | None:
    if _ARREARS.search(words):
        return Verdict("spent")
    if window := _WINDOW.search(words):
        return Verdict("window", _window_end(window[1].lower(), facts, now))
    if _CONCURRENCY.search(words):
        return Verdict("concurrency", _capped(facts, now, LONGEST_CONCURRENCY))
    if _EXHAUSTED.search(words) and (reset := named_reset(words, now)):
        return Verdict("window", reset)
    free, credit = _FREE.search(words), _CREDIT.search(words) or facts.status == 402
    if facts.kind == "oauth" and (free or credit or _EXHAUSTED.search(words)):
        # The quota of a login is that of a day in China.
        return Verdict("spent", midnight(now))
    if free or _DAILY.search(words):
        # Each model has a free quota of its own, on OpenRouter and ModelScope one a day.
        return Verdict("spent", scope="model")
    if _PER_MINUTE.search(words) or (credit and facts.provider in _DASHSCOPE):
        # Model Studio says "you exceeded your current quota" when a minute's tokens are used up.
        until = _capped(facts, now, LONGEST_BURST) or now + _TOKENS_PER_MINUTE
        return Verdict("burst", until, scope=_limited(facts))
    if credit or _EXHAUSTED.search(words):
        # OpenRouter asks for credits per model and per answer length.
        return Verdict("spent", scope="model" if facts.provider == "openrouter" else "account")
    return None


def _window_end(window: str, facts: Facts, now: int) -> int:
    """The body's own time, else the plan's rule (Coding Plan FAQ)."""
    named = named_reset(facts.message, now)
    if named:
        return named
    if window == "week":
        return monday(now)
    if window == "month":
        # In truth the day of the subscription, which nothing tells; re-probes find it.
        return first_of_month(now)
    rolling = now + 300 * MINUTE
    told = retry_after(facts.headers, facts.message, now)
    return min(told, rolling) if told and told >= now + MINUTE else rolling


def _credential(facts: Facts, words: str) -> Verdict:
    if facts.kind == "oauth":
        # The free tier still hands out tokens and then refuses them (qwen.md §2.0).
        return Verdict("not_entitled" if facts.refreshed else "needs_refresh")
    if facts.provider in _DASHSCOPE and not _DEAD_KEY.search(words):
        return Verdict("wrong_host")
    return Verdict("not_entitled")


def _by_status(facts: Facts, status: int | None, now: int) -> Verdict:
    if status == 404:
        if facts.message and not _is_page(facts) and not _NO_PATH.search(facts.message):
            # A client can misspell a model; that must not cost the account.
            return Verdict("model", scope="model")
        # Our paths are right, so it is the base URL that is not.
        return Verdict("wrong_host")
    if status is not None and 400 <= status < 500 and status not in _UNHEALTHY:
        return Verdict("client_fault")
    return Verdict("transient", _capped(facts, now, LONGEST_TRANSIENT), scope="model")


def _is_page(facts: Facts) -> bool:
    return "html" in facts.headers.get("content-type", "").lower()


def _limited(facts: Facts) -> Literal["account", "model"]:
    """Model Studio and OpenRouter limit each model by itself, the portal a login."""
    return "account" if facts.kind == "oauth" else "model"


def _capped(facts: Facts, now: int, longest: int) -> int | None:
    told = retry_after(facts.headers, facts.message, now)
    return None if told is None else min(told, now + longest)


def _own_status(message: str) -> int | None:
    """Model Studio begins its words with the status: ``<429> InternalError…``."""
    found = _STATUS_IN_TEXT.match(message)
    return int(found[1]) if found else None


def _short(message: str) -> str:
    text = " ".join(_SECRET.sub("…", message[:_READ]).split())
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
