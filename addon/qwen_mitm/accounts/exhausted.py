"""What a client gets when no account can take its request (clients.md "Errors", rules 1 to 6).

OpenCode repeats a request when certain words or digits stand anywhere in the answer, and Codex and
OpenCode sleep as long as ``retry-after`` says. So an error that waiting does not heal is a 400
without any of them. Pure; times are ms since 1970.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from qwen_mitm.errors import BridgeError, NoUsableAccount, UpstreamRefused

from .cooldown import Cooldown
from .model import Account
from .resets import DAY, HOUR, SECOND

#: A message is for a person; the command `qwen-mitm accounts` shows the rest.
_NAMED: Final = 8
_LONGEST_NAME: Final = 40
#: A limit that is over sooner is worth a client's own retries.
_SOON: Final = HOUR

# What makes OpenCode repeat a request; in names of accounts and models it is left out.
_RETRIED: Final = re.compile(
    r"429|50[0234]|524|rate.?limit|too.?many|overloaded|unavailable|internal|server.?error"
    r"|terminated|fetch|network|upstream|connect|econn|time.?d?.?out|retry|exhausted|try.again"
    r"|capacity",
    re.IGNORECASE,
)
_WORDS: Final[dict[str, str]] = {
    "burst": "paused by its host",
    "window": "quota of the period used up",
    "concurrency": "busy",
    "spent": "quota used up or bill unpaid",
    "not_entitled": "not entitled, or key refused",
    "wrong_host": "key and host do not match",
    "model": "does not offer this model",
    "transient": "failing",
}
_HELPLESS: Final = frozenset({"out", "not_entitled", "wrong_host", "model"})


class AccountState(NamedTuple):
    name: str
    words: str
    until: int | None


@dataclass(frozen=True, slots=True)
class Exhausted:
    """``retry_at`` is when the first account should work again; None: nothing tells.

    ``reasons`` are those of the cooldowns; ``out`` for an account that cannot be used at all,
    ``free`` for one that was tried in vain.
    """

    retry_at: int | None
    states: tuple[AccountState, ...]
    reasons: frozenset[str]


class UsageLimitReached(BridgeError):
    """Codex knows this type and shows ``resets_at``; it is repeated only with ``retry-after``."""

    status = 429
    type = "usage_limit_reached"
    default_code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, resets_at: int, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, headers=headers)
        self.resets_at = resets_at

    def body(self) -> bytes:
        document = json.loads(super().body())
        document["error"]["resets_at"] = -(-self.resets_at // SECOND)
        return json.dumps(document, ensure_ascii=False).encode()


class QuotaSpent(BridgeError):
    """Nothing will work for long. 400, because clients show that at once, without a retry."""

    status = 400
    type = "usage_limit_reached"
    default_code = "quota_exceeded"


def state_of(account: Account, cooldown: Cooldown | None) -> AccountState:
    """An account's state in words that no client takes for a reason to try again."""
    if account.disabled:
        return AccountState(account.name, "disabled", None)
    if account.needs_login:
        return AccountState(account.name, "needs login", None)
    if cooldown is None:
        return AccountState(account.name, "tried in vain", None)
    return AccountState(account.name, _WORDS[cooldown.reason], cooldown.until)


def exhausted_error(
    exhausted: Exhausted, *, max_wait_s: int, now: int, model: str | None = None
) -> BridgeError:
    """The client's answer; its ``retry-after`` is at most ``max_wait_s``, or absent."""
    states = _listing(exhausted.states, now)
    if exhausted.reasons <= _HELPLESS:
        return _helpless(exhausted, states, model)
    retry_at = exhausted.retry_at
    if retry_at is None or retry_at - now > max(_SOON, max_wait_s * SECOND):
        when = "" if retry_at is None else f" The first is back {_moment(retry_at, now)}."
        used_up = exhausted.reasons & {"spent", "window"}
        what = "The quota of every account is used up" if used_up else "No account is free"
        return QuotaSpent(f"{what}.{when} {states}")
    seconds = max(1, -(-(retry_at - now) // SECOND))
    # Codex sleeps that long without a word, told by the header or, when the answer had begun, by
    # the message.
    short = seconds <= max_wait_s
    headers = {"retry-after": str(seconds)} if short else {}
    when = f"Try again in {seconds}s." if short else f"The first is back {_moment(retry_at, now)}."
    message = f"Every account is limited. {when} {states}"
    return UsageLimitReached(message, resets_at=max(retry_at, now + SECOND), headers=headers)


def _helpless(exhausted: Exhausted, states: str, model: str | None) -> BridgeError:
    if "model" in exhausted.reasons and not exhausted.reasons & {"not_entitled", "wrong_host"}:
        name = f" {_harmless(model)!r}" if model else ""
        return UpstreamRefused(
            f"No account offers the model{name}. {states}",
            status=404,
            type="invalid_request_error",
            param="model",
            code="model_not_found",
        )
    return NoUsableAccount(
        f"No account can be used. {states} `qwen-mitm accounts` shows more; log in again, or mend "
        "or enable an account."
    )


def _listing(states: tuple[AccountState, ...], now: int) -> str:
    if not states:
        return "There is none."
    named = [
        f"{_harmless(state.name)}: {state.words}"
        + ("" if state.until is None else f" until {_moment(state.until, now, '')}")
        for state in states[:_NAMED]
    ]
    rest = ["and others"] if len(states) > _NAMED else []
    return "; ".join([*named, *rest]) + "."


def _harmless(name: str) -> str:
    # Cut before and after, so that leaving a part out cannot make new words of what is left.
    name = " ".join(name.split())
    return _RETRIED.sub("…", name)[:_LONGEST_NAME] or "…"


def _moment(at: int, now: int, preposition: str = "on ") -> str:
    """In UTC, without the year: four digits of one might be those of a status."""
    moment = datetime.fromtimestamp(at / SECOND, UTC)
    if at - now < DAY and moment.date() == datetime.fromtimestamp(now / SECOND, UTC).date():
        return f"{preposition and 'at '}{moment:%H:%M} UTC"
    return f"{preposition}{moment:%d %B, %H:%M} UTC"
