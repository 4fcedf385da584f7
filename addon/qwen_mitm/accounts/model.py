"""What an account is, in the format of the OpenCode plugin's file and its extensions.

The plugin's keys (qwen.md §1.5) are ``refreshToken``, ``accessToken``, ``expires``,
``resourceUrl``, ``addedAt``, ``lastUsed`` and ``rateLimitResetAt``; the others are ours. Unknown
keys are kept. Times are ms since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from qwen_mitm.providers import PROFILES, Wire

from .cooldown import ALL_MODELS, Cooldown, CooldownReason, DayUsage, Stored

#: Where an OAuth token works when its account does not say (qwen.md §2.4).
PORTAL_BASE_URL = "https://portal.qwen.ai/v1"

#: Where a web chat is when its account does not say.
WEB_CHAT_URL: Final = "https://chat.qwen.ai"

#: The plugin deletes entries without ``refreshToken`` when it saves, so an API key's entry has one
#: on disk that begins so and is no token, and a limit that keeps the plugin from choosing it.
PLACEHOLDER: Final = "qwen-mitm-api-key-"

#: Redeemed refresh tokens that an account remembers.
REMEMBERED_TOKENS: Final = 8


def normalise_resource_url(resource_url: str) -> str:
    """The base URL that a token's ``resource_url`` stands for (qwen.md §2.4)."""
    url = resource_url if "://" in resource_url else f"https://{resource_url}"
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Asking for the port raises ValueError when it is out of range.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Account(Stored):
    """One account: an OAuth login, an API key with its base URL, or a web chat.

    The credentials of a web chat are somewhere else, under ``credential_id``; None: the current
    ones.
    """

    name: str = ""
    kind: Literal["oauth", "api_key", "web_chat"] | None = None
    refresh_token: SecretStr | None = None
    access_token: SecretStr | None = None
    expires: int | None = None
    resource_url: str | None = None
    api_key: SecretStr | None = None
    base_url: str | None = None
    provider: str | None = None
    credential_id: int | None = None
    wire: Wire | None = None
    """What its host is asked by, if it can; None: Chat."""
    added_at: int | None = None
    last_used: int | None = None
    rate_limit_reset_at: int | None = None
    """The plugin's own cooldown for all models."""
    disabled: bool = False
    needs_login: bool = False
    cooldowns: dict[str, Cooldown] = Field(default_factory=dict)
    """By model, or :data:`ALL_MODELS`."""
    usage: DayUsage | None = None
    spent_refresh_tokens: tuple[str, ...] = ()
    """SHA-256 of the last refresh tokens that were redeemed: the plugin writes them back."""

    @model_validator(mode="before")
    @classmethod
    def _without_placeholder(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        token = data.get("refreshToken")
        if not isinstance(token, str) or not token.startswith(PLACEHOLDER):
            return data
        return {k: v for k, v in data.items() if k not in ("refreshToken", "rateLimitResetAt")}

    @field_validator("base_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _is_http(value):
            raise ValueError("must be an http or https URL")
        return value.rstrip("/")

    @field_validator("api_key", "access_token", "refresh_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        """Keys are pasted, with a line end perhaps; one in the middle would make a header more."""
        if value is None:
            return None
        secret = value.get_secret_value().strip()
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise ValueError("must be printable ASCII without spaces")
        return SecretStr(secret)

    @field_validator("provider")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in PROFILES:
            raise ValueError(f"must be one of {', '.join(sorted(PROFILES))}")
        return value

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Account:
        if self.kind == "api_key" and not self.api_key:
            raise ValueError("an api_key account needs apiKey")
        if not (self.api_key or self.access_token or self.refresh_token or self.is_web_chat):
            raise ValueError("needs apiKey, accessToken or refreshToken")
        return self

    @property
    def credential(self) -> SecretStr | None:
        """The bearer; None when an OAuth account has no access token yet."""
        return self.api_key if self.is_api_key else self.access_token

    @property
    def is_api_key(self) -> bool:
        return self.kind == "api_key" or (self.kind is None and self.api_key is not None)

    @property
    def is_web_chat(self) -> bool:
        return self.kind == "web_chat"

    @property
    def has_secret(self) -> bool:
        """It has something to ask with, if need be after a refresh."""
        renewable = self.refresh_token and not self.is_api_key
        return self.is_web_chat or bool(self.credential or renewable)

    def endpoint(self, default: str) -> str:
        """The base URL, without a slash at its end. A token's ``resource_url`` is its own."""
        if self.base_url:
            return self.base_url
        if self.is_web_chat:
            return WEB_CHAT_URL
        if self.resource_url and not self.is_api_key:
            url = normalise_resource_url(self.resource_url)
            # The authorization server's word; when it is none, the login still works elsewhere.
            if _is_http(url):
                return url
        return default.rstrip("/")

    def cooldown(self, model: str, now: int) -> Cooldown | None:
        """The cooldown that keeps the account from ``model`` the longest; None: there is none."""
        longest: Cooldown | None = None
        for found in (self.cooldowns.get(ALL_MODELS), self.cooldowns.get(model), self._plugins()):
            if found is None or found.is_over(now):
                continue
            if longest is None or _end(found) > _end(longest):
                longest = found
        return longest

    def _plugins(self) -> Cooldown | None:
        if not self.rate_limit_reset_at:
            return None
        return Cooldown(until=self.rate_limit_reset_at, reason="burst", since=self.last_used or 0)

    def is_usable(self, model: str, now: int) -> bool:
        """Whether a request for ``model`` may be sent with it, if need be after a refresh."""
        if self.disabled or self.needs_login:
            return False
        return self.has_secret and self.cooldown(model, now) is None

    def expires_within(self, ms: int, now: int) -> bool:
        """Whether its access token is over in ``ms``; False when it does not say."""
        return not self.is_api_key and self.expires is not None and self.expires - now <= ms


def _end(cooldown: Cooldown) -> float:
    return float("inf") if cooldown.until is None else cooldown.until


class AccountFile(Stored):
    """The whole file. Changes give a new one, and find accounts by the names of ``named``."""

    version: Literal[1]
    accounts: tuple[Account, ...] = ()
    # The plugin makes a missing index NaN, which JSON writes as null.
    active_index: Annotated[int, BeforeValidator(lambda value: value or 0)] = 0

    def named(self) -> tuple[Account, ...]:
        """The accounts, each with a name that is its own.

        The plugin writes back entries that were replaced when their token was refreshed (qwen.md
        §1.5). To redeem such a token again may end the whole login. Those that we redeemed
        ourselves are left out; those that the plugin did are told from the live entry that they
        were copied to, and need a login.
        """
        spent = {token for account in self.accounts for token in account.spent_refresh_tokens}
        accounts = [a for a in self.accounts if not (spent and _token_hash(a) in spent)]
        dead = _superseded(accounts)
        taken: set[str] = set()
        names: dict[int, str] = {}
        for i in sorted(range(len(accounts)), key=lambda i: (not accounts[i].name, i in dead)):
            names[i] = _free_name(accounts[i].name or f"account-{i + 1}", taken)
            taken.add(names[i])
        return tuple(
            account
            if account.name == names[i] and i not in dead
            else account.model_copy(
                update={"name": names[i], "needs_login": account.needs_login or i in dead}
            )
            for i, account in enumerate(accounts)
        )

    def find(self, name: str) -> Account | None:
        return next((account for account in self.accounts if account.name == name), None)

    def add(self, account: Account) -> AccountFile:
        """With one more account; one without a name gets one.

        Raises:
            ValueError: the name is taken, or its refresh token was redeemed already.
        """
        taken = {a.name for a in self.accounts}
        if account.name in taken:
            raise ValueError(f"there is already an account named {account.name!r}")
        if any(_token_hash(account) in a.spent_refresh_tokens for a in self.accounts):
            raise ValueError("its refresh token was redeemed already; log in again")
        name = account.name or _free_name(f"account-{len(self.accounts) + 1}", taken)
        return self._with((*self.accounts, account.model_copy(update={"name": name})))

    def change(self, name: str, how: Callable[[Account], Account]) -> AccountFile:
        """With one account changed; the same file when it is no longer there.

        Raises:
            ValueError: its new name is taken.
        """
        before = self.find(name)
        if before is None:
            return self
        after = _remembering(before, how(before))
        if after.name != name and self.find(after.name):
            raise ValueError(f"there is already an account named {after.name!r}")
        return self._with(tuple(after if a is before else a for a in self.accounts))

    def replace(self, account: Account) -> AccountFile:
        """With this one instead of the account of its name; the same file when that is gone."""
        return self.change(account.name, lambda _: account)

    def remove(self, name: str) -> AccountFile:
        """Without the account of that name."""
        return self._with(tuple(a for a in self.accounts if a.name != name))

    def _with(self, accounts: tuple[Account, ...]) -> AccountFile:
        index = min(self.active_index, max(len(accounts) - 1, 0))
        return self.model_copy(update={"accounts": accounts, "active_index": index})


def _token_hash(account: Account) -> str | None:
    if account.refresh_token is None:
        return None
    return hashlib.sha256(account.refresh_token.get_secret_value().encode()).hexdigest()


def _remembering(before: Account, after: Account) -> Account:
    """The account after a change, with the refresh token that it no longer has as a spent one."""
    old = _token_hash(before)
    if old is None or old == _token_hash(after):
        return after
    spent = (*before.spent_refresh_tokens, old)[-REMEMBERED_TOKENS:]
    return after.model_copy(update={"spent_refresh_tokens": spent})


def _superseded(accounts: Sequence[Account]) -> set[int]:
    """Places of entries whose live copy has the same name, the same start and a later end."""
    groups: dict[tuple[str, int], list[int]] = {}
    for i, account in enumerate(accounts):
        if account.refresh_token and account.name and account.added_at:
            groups.setdefault((account.name, account.added_at), []).append(i)
    dead: set[int] = set()
    for group in groups.values():
        group.sort(key=lambda i: accounts[i].expires or 0)
        dead.update(group[:-1])
    return dead


def _free_name(wanted: str, taken: Collection[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


__all__ = [
    "ALL_MODELS",
    "PLACEHOLDER",
    "PORTAL_BASE_URL",
    "Account",
    "AccountFile",
    "Cooldown",
    "CooldownReason",
    "DayUsage",
    "normalise_resource_url",
]
