"""What an account is, in the format of the OpenCode plugin's file and its extensions.

The plugin's keys (qwen.md §1.5) are ``refreshToken``, ``accessToken``, ``expires`` (ms),
``resourceUrl``; ours are ``name``, ``kind``, ``apiKey``, ``baseUrl``, ``provider``, ``disabled``.
Unknown keys are kept.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.alias_generators import to_camel

from qwen_mitm.providers import PROFILES

#: Where an OAuth token works when its account does not say (qwen.md §2.4).
PORTAL_BASE_URL = "https://portal.qwen.ai/v1"


def normalise_resource_url(resource_url: str) -> str:
    """The base URL that a token's ``resource_url`` stands for (qwen.md §2.4)."""
    url = resource_url if "://" in resource_url else f"https://{resource_url}"
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


class Account(BaseModel):
    """One account: an OAuth login or an API key with its base URL. Times are ms since 1970."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    name: str = ""
    kind: Literal["oauth", "api_key"] | None = None
    refresh_token: SecretStr | None = None
    access_token: SecretStr | None = None
    expires: int | None = None
    resource_url: str | None = None
    api_key: SecretStr | None = None
    base_url: str | None = None
    provider: str | None = None
    disabled: bool = False

    @field_validator("base_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL")
        return value.rstrip("/")

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
        if not (self.api_key or self.access_token or self.refresh_token):
            raise ValueError("needs apiKey, accessToken or refreshToken")
        return self

    @property
    def credential(self) -> SecretStr | None:
        """The bearer; None when an OAuth account has no access token yet."""
        return self.api_key if self.is_api_key else self.access_token

    @property
    def is_api_key(self) -> bool:
        return self.kind == "api_key" or (self.kind is None and self.api_key is not None)

    def endpoint(self, default: str) -> str:
        """The base URL, without a slash at its end. A token's ``resource_url`` is its own."""
        if self.base_url:
            return self.base_url
        if self.resource_url and not self.is_api_key:
            return normalise_resource_url(self.resource_url)
        return default.rstrip("/")


class AccountFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    version: Literal[1]
    accounts: tuple[Account, ...] = ()
    active_index: int = Field(0, alias="activeIndex")

    def named(self) -> tuple[Account, ...]:
        """The accounts, each with a name that is its own."""
        named: list[Account] = []
        taken: set[str] = set()
        for position, account in enumerate(self.accounts, 1):
            name = account.name or f"account-{position}"
            while name in taken:
                name = f"{name}-{position}"
            taken.add(name)
            named.append(account.model_copy(update={"name": name}))
        return tuple(named)
