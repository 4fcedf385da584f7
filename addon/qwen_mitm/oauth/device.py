"""The device flow (RFC 8628, with PKCE) as a generator without I/O (qwen.md §1.3, §2.1).

``log_in`` yields what is to be done next and is sent the reply: a :class:`Post` is answered by an
``Answer`` or a ``Fault``, a :class:`Wait` and a :class:`Prompt` by None. It returns the tokens.
transport.py drives it over the network; tests drive it by hand.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from qwen_mitm.accounts.model import Account

from .errors import LoginDenied, LoginExpired, LoginFailed
from .messages import (
    DEVICE_PATH,
    TOKEN_PATH,
    Answer,
    Fault,
    Post,
    Refusal,
    Reply,
    Tokens,
    Unreadable,
    lenient_seconds,
    read,
)

SCOPE = "openid profile email model.completion"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

#: Seconds between polls when the server names none, and what each slow_down adds (RFC 8628 §3.5).
DEFAULT_INTERVAL = 5
SLOW_DOWN = 5
#: RFC 8628 §3.5 asks for exponential backoff when the network fails.
LONGEST_BACKOFF = 60
MOST_FAULTS = 8
#: Attempts to get a code at all, and the pause between them.
FIRST_TRIES = 3
FIRST_PAUSE = 2


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the person has to be shown. ``address`` has the code in it when the server offers so."""

    user_code: str
    verification_uri: str
    address: str
    expires_in: int


type Step = Post | Wait | Prompt
type Flow = Generator[Step, Reply | None, Tokens]


class _Authorization(BaseModel):
    """The answer of the device endpoint."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    device_code: Annotated[SecretStr, Field(min_length=1)]
    user_code: Annotated[str, Field(min_length=1, max_length=64)]
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: Annotated[int, BeforeValidator(lenient_seconds), Field(gt=0)]
    interval: Annotated[int | None, BeforeValidator(lenient_seconds)] = None

    @field_validator("verification_uri", "verification_uri_complete")
    @classmethod
    def _opens_in_a_browser(cls, value: str | None) -> str | None:
        # It is handed to the system, which would start any program for other schemes.
        parts = urlsplit(value or "https://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not a web address")
        return value

    @field_validator("user_code", "verification_uri", "verification_uri_complete")
    @classmethod
    def _can_be_printed(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("has characters that cannot be printed")
        return value


def new_verifier() -> SecretStr:
    """A PKCE verifier: 32 random bytes in base64url."""
    return SecretStr(secrets.token_urlsafe(32))


def challenge(verifier: SecretStr) -> str:
    """Its S256 challenge (RFC 7636 §4.2)."""
    digest = hashlib.sha256(verifier.get_secret_value().encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def log_in(
    base_url: str,
    client_id: str,
    *,
    verifier: SecretStr,
    request_id: str,
    clock: Callable[[], float],
) -> Flow:
    """The flow from asking for a code to the tokens. ``clock`` counts seconds.

    Raises:
        LoginFailed: denied, expired, refused, or the server cannot be reached.
    """
    ask = Post(
        base_url + DEVICE_PATH,
        {
            "client_id": client_id,
            "scope": SCOPE,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        },
        {"x-request-id": request_id},
    )
    authorization = yield from _authorization(ask)
    deadline = clock() + authorization.expires_in
    yield Prompt(
        user_code=authorization.user_code,
        verification_uri=authorization.verification_uri,
        address=authorization.verification_uri_complete or authorization.verification_uri,
        expires_in=authorization.expires_in,
    )
    poll = Post(
        base_url + TOKEN_PATH,
        {
            "client_id": client_id,
            "grant_type": DEVICE_GRANT,
            "device_code": authorization.device_code,
            "code_verifier": verifier,
        },
    )
    pace = _Pace(authorization.interval or DEFAULT_INTERVAL, (authorization.device_code, verifier))
    while True:
        yield Wait(min(pace.seconds, max(0.0, deadline - clock())))
        if clock() >= deadline:
            raise LoginExpired
        if tokens := pace.heard((yield from _post(poll))):
            return tokens


def account_of(tokens: Tokens, name: str, now: int) -> Account:
    """A new account with these tokens; ``now`` is ms since 1970.

    Raises:
        LoginFailed: a token does not fit a header.
    """
    fields = {"name": name, "kind": "oauth", "added_at": now, **tokens.fields(now)}
    try:
        return Account.model_validate(fields)
    except ValidationError:
        raise LoginFailed("The server sent a token that cannot be used.") from None


def _post(post: Post) -> Generator[Step, Reply | None, Reply]:
    reply = yield post
    if reply is None:
        raise TypeError("a Post is answered by an Answer or a Fault")
    return reply


def _authorization(ask: Post) -> Generator[Step, Reply | None, _Authorization]:
    reason = ""
    for attempt in range(FIRST_TRIES):
        if attempt:
            yield Wait(FIRST_PAUSE)
        reply = yield from _post(ask)
        if isinstance(reply, Answer):
            authorization = _read_authorization(reply)
            if isinstance(authorization, _Authorization):
                return authorization
            reason = authorization
            if reply.status < 500:
                break
        else:
            reason = reply.message
    raise LoginFailed(f"There is no code to log in with: {reason}.")


def _read_authorization(answer: Answer) -> _Authorization | str:
    """The code, or why there is none."""
    said = read(answer)
    if isinstance(said, Refusal):
        return f"the server refused: {said.words()}"
    if not 200 <= answer.status < 300:
        return said.words() if isinstance(said, Unreadable) else f"HTTP {answer.status}"
    try:
        return _Authorization.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"the server's answer has no usable {field}" if field else "its answer is not JSON"


class _Pace:
    """How long to wait before the next poll, by what the last ones said."""

    def __init__(self, interval: float, never_quoted: tuple[SecretStr, ...]) -> None:
        self._interval = interval
        self._faults = 0
        self._never_quoted = never_quoted

    @property
    def seconds(self) -> float:
        backoff = self._interval * (1 << self._faults)
        return max(self._interval, min(backoff, LONGEST_BACKOFF))

    def heard(self, reply: Reply) -> Tokens | None:
        """The tokens, or None to go on; raises LoginFailed."""
        said = reply if isinstance(reply, Fault) else read(reply)
        match said:
            case Tokens():
                return said
            case Refusal(error="authorization_pending"):
                self._faults = 0
            case Refusal(error="slow_down") | Refusal(status=429) | Unreadable(status=429):
                self._faults = 0
                self._interval += SLOW_DOWN
            case Refusal(error="access_denied"):
                raise LoginDenied
            case Refusal(error="expired_token") | Refusal(status=401):
                raise LoginExpired
            case Unreadable(status=401, page=False):
                raise LoginExpired
            case Refusal(status=status) if status < 500:
                words = said.words(self._never_quoted)
                raise LoginFailed(f"The server refused the login: {words}.")
            case _:
                self._fault(said.words(self._never_quoted))
        return None

    def _fault(self, message: str) -> None:
        self._faults += 1
        if self._faults >= MOST_FAULTS:
            raise LoginFailed(f"The login was given up: {message}.")
