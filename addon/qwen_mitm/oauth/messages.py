"""What is said to the authorization server and what it answers (qwen.md §2.1, §2.2). Pure.

Secrets are SecretStr from the moment that an answer is parsed, and bytes of answers are not in any
``repr``: a traceback that shows local variables shows none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

from qwen_mitm.accounts.model import normalise_resource_url

DEVICE_PATH = "/api/v1/oauth2/device/code"
TOKEN_PATH = "/api/v1/oauth2/token"

#: Longest piece of the server's own words in a message.
_WORDS = 200

#: Longest lifetime that is believed, in seconds; a larger number is no number of seconds.
_TEN_YEARS = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Post:
    """A form to send."""

    url: str
    form: Mapping[str, str | SecretStr]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of any status."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """No answer: the network's failure, in words that hold no secret."""

    message: str

    def words(self, _secrets: Iterable[SecretStr] = ()) -> str:
        return self.message


type Reply = Answer | Fault


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's own refusal. ``error`` is empty when it is not OAuth's.

    Some servers quote the token that they refuse.
    """

    status: int
    error: str
    description: str = field(repr=False)

    def words(self, secrets: Iterable[SecretStr] = ()) -> str:
        """For a message; ``secrets`` that the server quotes are left out."""
        code = self.error or f"HTTP {self.status}"
        text = f"{code}: {self.description}" if self.description else code
        for secret in secrets:
            text = text.replace(secret.get_secret_value(), "…")
        return "".join(c if c.isprintable() else " " for c in text)[:_WORDS].rstrip(" .")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is not OAuth's. A ``page`` was written by something in between."""

    status: int
    page: bool

    def words(self, _secrets: Iterable[SecretStr] = ()) -> str:
        kind = "a web page" if self.page else "something that is not JSON"
        return f"the server answered {self.status} with {kind}"


def _text(value: object) -> object:
    return value if isinstance(value, str) and value else None


def lenient_seconds(value: object) -> object:
    """A lifetime, also from a string or a float; None when it is no number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return int(seconds) if 0 <= seconds <= _TEN_YEARS else None


def _resource_url(value: object) -> object:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(normalise_resource_url(value))
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        return None
    return value if usable else None


#: Fields of an Account by name, for ``model_copy``, which takes no other type.
type Fields = dict[str, Any]


class Tokens(BaseModel):
    """A success. What is odd beside the tokens is left out: the old refresh token is spent now."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    access_token: SecretStr
    refresh_token: Annotated[SecretStr | None, BeforeValidator(_text)] = None
    expires_in: Annotated[int | None, BeforeValidator(lenient_seconds)] = None
    resource_url: Annotated[str | None, BeforeValidator(_resource_url)] = None

    def fields(self, now: int) -> Fields:
        """The fields of an account that has them now (ms); what was not sent stays as it was."""
        lifetime = self.expires_in
        changed: Fields = {
            "access_token": self.access_token,
            "expires": None if lifetime is None else now + lifetime * 1000,
            "needs_login": False,
        }
        if self.refresh_token is not None:
            changed["refresh_token"] = self.refresh_token
        if self.resource_url is not None:
            changed["resource_url"] = self.resource_url
        return changed


class _Error(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    error: object = None
    error_description: Annotated[str | None, BeforeValidator(_text)] = None
    message: Annotated[str | None, BeforeValidator(_text)] = None


def read(answer: Answer) -> Tokens | Refusal | Unreadable:
    """What an answer of the token endpoint says; an ``error`` counts whatever the status."""
    try:
        error = _Error.model_validate_json(answer.body)
    except ValidationError:
        return Unreadable(answer.status, page=answer.body.lstrip()[:1] == b"<")
    ok = 200 <= answer.status < 300
    if error.error is None and ok:
        try:
            return _with_access_token(Tokens.model_validate_json(answer.body))
        except ValidationError:
            return Unreadable(answer.status, page=False)
    name = error.error if isinstance(error.error, str) else ""
    return Refusal(answer.status, name, error.error_description or error.message or "")


def _with_access_token(tokens: Tokens) -> Tokens | Unreadable:
    return tokens if tokens.access_token.get_secret_value() else Unreadable(200, page=False)
