"""An account as it is shown to people and to programs: nothing secret. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from qwen_mitm.providers import WEB_CHAT, profile_for

from .cooldown import ALL_MODELS, Cooldown
from .model import Account

REASONS: Final[dict[str, str]] = {
    "burst": "cooling",
    "window": "quota used up",
    "concurrency": "busy",
    "spent": "quota used up or bill unpaid",
    "not_entitled": "not entitled",
    "wrong_host": "wrong host for this key",
    "model": "not offered",
    "transient": "failing",
}


def state(account: Account, now: int) -> str:
    """``ok``, ``disabled``, ``needs_login``, or the reason of the cooldown for all models."""
    if account.disabled:
        return "disabled"
    if account.needs_login or _is_over(account, now):
        return "needs_login"
    cooldown = account.cooldown(ALL_MODELS, now)
    return "ok" if cooldown is None else cooldown.reason


def in_words(state: str) -> str:
    return {"needs_login": "needs login"}.get(state) or REASONS.get(state, state)


def document(account: Account, now: int, default_url: str) -> dict[str, Any]:
    """An account for programs; times are ms since 1970."""
    base_url = account.endpoint(default_url)
    whole = account.cooldown(ALL_MODELS, now)
    used = used_today(account, now)
    return {
        "name": account.name,
        "kind": kind(account),
        "provider": provider_name(account, base_url),
        "wire": wire(account, base_url),
        "base_url": _without_user(base_url),
        "state": state(account, now),
        "words": in_words(state(account, now)),
        "until": whole.until if whole else None,
        "message": whole.message if whole else "",
        "disabled": account.disabled,
        "needs_login": account.needs_login,
        "cooldowns": [
            {
                "model": model,
                "reason": cooldown.reason,
                "words": in_words(cooldown.reason),
                "until": cooldown.until,
                "message": cooldown.message,
            }
            for model, cooldown in limited_models(account, now)
        ],
        "expires": None if account.is_api_key else account.expires,
        "last_used": account.last_used or None,
        "requests_today": used[0],
        "tokens_today": used[1],
    }


def limited_models(account: Account, now: int) -> list[tuple[str, Cooldown]]:
    """The cooldowns of single models."""
    return [
        (model, cooldown)
        for model, cooldown in account.cooldowns.items()
        if model != ALL_MODELS and not cooldown.is_over(now)
    ]


def used_today(account: Account, now: int) -> tuple[int, int]:
    """Requests and tokens, of the day in UTC."""
    today = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
    if account.usage is None or account.usage.date != today:
        return 0, 0
    return account.usage.requests, account.usage.tokens


def kind(account: Account) -> str:
    return "api_key" if account.is_api_key else "web_chat" if account.is_web_chat else "oauth"


def provider_name(account: Account, base_url: str) -> str:
    """As the profiles are called."""
    return WEB_CHAT.name if account.is_web_chat else profile_for(base_url, account.provider).name


def wire(account: Account, base_url: str) -> str:
    """What its host is asked by, but for models that it has in Chat alone."""
    if account.is_web_chat:
        return "web_chat"
    profile = profile_for(base_url, account.provider)
    speaks = account.wire == "responses" and profile.responses_models is not None
    return "responses" if speaks else "chat"


def _is_over(account: Account, now: int) -> bool:
    """A token that has ended and that nothing can renew."""
    return account.refresh_token is None and account.expires_within(0, now)


def _without_user(url: str) -> str:
    """A password in an address is a secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
