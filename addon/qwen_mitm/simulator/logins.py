"""Logins and their tokens: which are good, which are spent, which were given in vain."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field, fields
from typing import Any

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


class Denied(Exception):
    """A token request that gets no token: status and ``error`` of the answer."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.description = description


@dataclass(slots=True)
class Terms:
    """What the next tokens and device codes come with. Seconds, as on the wire.

    ``refresh_token`` says what a login and a refresh return: a new one, none, or null.
    ``free_tier_ended``: logins go on, and every completion answers 401 (qwen.md §2.0).
    """

    expires_in: int = 21600
    resource_url: str | None = "portal.qwen.ai"
    refresh_token: str = "new"
    interval: int | None = None
    device_expires_in: int = 900
    free_tier_ended: bool = False

    def update(self, changes: dict[str, Any]) -> None:
        """Raises ValueError for a name that there is not."""
        known = {entry.name for entry in fields(self)}
        if unknown := changes.keys() - known:
            raise ValueError(f"no term {', '.join(sorted(unknown))}; there are: {sorted(known)}")
        for name, value in changes.items():
            setattr(self, name, value)


@dataclass(slots=True)
class Family:
    """One login: the pair of tokens that is good now, and the refresh tokens that were used."""

    account: str
    refresh_token: str
    access_token: str
    expires_at: float
    spent: set[str] = field(default_factory=set)
    revoked: bool = False


@dataclass(slots=True)
class DeviceCode:
    device_code: str
    user_code: str
    client_id: str
    challenge: str
    expires_at: float
    account: str | None = None
    denied: bool = False


@dataclass(slots=True)
class Redeem:
    """A request for tokens as it arrived, and what became of it; ``open`` while it is held."""

    grant: str
    account: str | None
    at: float
    outcome: str = "open"

    def as_json(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


class Logins:
    """The authorization server's memory."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.terms = Terms()
        self.families: list[Family] = []
        self.codes: list[DeviceCode] = []
        self.redeems: list[Redeem] = []

    def login(self, account: str, refresh_token: str = "", access_token: str = "") -> Family:
        """Tokens for an account, as after a login; given ones are taken as they are."""
        family = Family(
            account=account,
            refresh_token=refresh_token or _new("refresh"),
            access_token=access_token or _new("access"),
            expires_at=time.monotonic() + self.terms.expires_in,
        )
        self.families.append(family)
        return family

    def account_of_bearer(self, bearer: str) -> str | None:
        """Whose access token this is, while it is good."""
        for family in self.families:
            if family.access_token == bearer and not family.revoked:
                return family.account if time.monotonic() < family.expires_at else None
        return None

    def account_of_refresh_token(self, token: str) -> str | None:
        return next((f.account for f in self.families if _knows(f, token)), None)

    def code(self, client_id: str, challenge: str) -> DeviceCode:
        letters = "".join(secrets.choice(_USER_CODE_LETTERS) for _ in range(8))
        code = DeviceCode(
            device_code=_new("device"),
            user_code=f"{letters[:4]}-{letters[4:]}",
            client_id=client_id,
            challenge=challenge,
            expires_at=time.monotonic() + self.terms.device_expires_in,
        )
        self.codes.append(code)
        return code

    def decide(self, user_code: str, account: str | None) -> None:
        """The person's decision about a code: an account, or None to deny. Raises ValueError."""
        for code in self.codes:
            if code.user_code == user_code:
                code.account, code.denied = account, account is None
                return
        raise ValueError(f"no code {user_code!r} is waiting")

    def redeem_code(self, client_id: str, device_code: str, verifier: str) -> Family:
        """The tokens of an approved code, once; raises Denied."""
        code = next((c for c in self.codes if c.device_code == device_code), None)
        if code is None or code.client_id != client_id:
            raise Denied(401, "invalid_grant", "Device code expired or invalid")
        if not _proves(verifier, code.challenge):
            raise Denied(400, "invalid_grant", "code_verifier does not match code_challenge")
        if time.monotonic() >= code.expires_at:
            raise Denied(400, "expired_token", "The device code has expired")
        if code.denied:
            raise Denied(400, "access_denied", "The user denied the request")
        if code.account is None:
            raise Denied(400, "authorization_pending", "The user has not approved yet")
        self.codes.remove(code)
        return self.login(code.account)

    def refresh(self, token: str) -> Family:
        """New tokens for a refresh token, which is spent by that; raises Denied.

        A spent one was stolen or copied, so that the whole family is revoked.
        """
        family = next((f for f in self.families if _knows(f, token)), None)
        if family is not None and token in family.spent:
            family.revoked = True
        if family is None or family.revoked:
            raise Denied(400, "invalid_grant", "Invalid refresh token or client_id")
        if self.terms.refresh_token == "new":
            family.spent.add(token)
            family.refresh_token = _new("refresh")
        family.access_token = _new("access")
        family.expires_at = time.monotonic() + self.terms.expires_in
        return family

    def of(self, account: str) -> Family:
        """The newest login of an account; raises ValueError."""
        for family in reversed(self.families):
            if family.account == account:
                return family
        raise ValueError(f"nobody is logged in as {account!r}")

    def tokens(self, family: Family) -> dict[str, Any]:
        """The body of a success (qwen.md §2.1)."""
        body: dict[str, Any] = {
            "access_token": family.access_token,
            "token_type": "Bearer",
            "expires_in": self.terms.expires_in,
            "scope": "openid profile email model.completion",
        }
        if self.terms.refresh_token == "new":
            body["refresh_token"] = family.refresh_token
        elif self.terms.refresh_token == "null":
            body["refresh_token"] = None
        if self.terms.resource_url is not None:
            body["resource_url"] = self.terms.resource_url
        return body


def _knows(family: Family, token: str) -> bool:
    return token == family.refresh_token or token in family.spent


def _proves(verifier: str, challenge: str) -> bool:
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


def _new(kind: str) -> str:
    return f"sim-{kind}-{secrets.token_hex(16)}"
