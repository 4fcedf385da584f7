"""What a verdict does to an account: its cooldowns. Pure; times are ms since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from .cooldown import ALL_MODELS, Cooldown, CooldownReason
from .model import Account
from .resets import MINUTE, SECOND

type VerdictKind = Literal["ok", "client_fault", "needs_refresh"] | CooldownReason


@dataclass(frozen=True, slots=True)
class Verdict:
    """``until``: when it works again, by the upstream's words or rules; None: nothing tells.

    ``scope`` says whether it counts for the account or for the model that was asked for.
    """

    kind: VerdictKind
    until: int | None = None
    message: str = ""
    scope: Literal["account", "model"] = "account"

    @property
    def reason(self) -> CooldownReason | None:
        """The cooldown that follows; None: none does."""
        if self.kind in ("ok", "client_fault", "needs_refresh"):
            return None
        return cast("CooldownReason", self.kind)  # what is left of the literal


OK: Final = Verdict("ok")

#: No limit of a burst is longer, whatever ``retry-after`` says: three days have been seen.
LONGEST_BURST: Final = 15 * MINUTE
LONGEST_CONCURRENCY: Final = MINUTE
LONGEST_TRANSIENT: Final = 2 * MINUTE


#: First and longest wait where the upstream names none; it doubles while re-probes fail.
_BACKOFF: Final[dict[str, tuple[int, int]]] = {
    "burst": (5 * SECOND, LONGEST_BURST),
    "concurrency": (3 * SECOND, LONGEST_CONCURRENCY),
    "transient": (SECOND, LONGEST_TRANSIENT),
}
#: Over so soon that nobody else needs to know: these are not written down.
PASSING: Final = frozenset({"transient", "concurrency"})
#: Of one account.
MOST_COOLDOWNS: Final = 32
#: No model's name is longer, but a client may send any as one, and the file would grow with it.
LONGEST_MODEL: Final = 200
#: A failure that is longer ago than this does not make the next wait longer.
_REMEMBERED: Final = 10 * MINUTE


def apply(
    account: Account, verdict: Verdict, model: str, now: int, *, sent_at: int | None = None
) -> Account:
    """The account after this verdict; the same object when nothing changed.

    ``sent_at`` is when the attempt began: what was on its way before a cooldown began neither ends
    nor shortens it, and does not count as one more failure. Nothing here enables an account.
    """
    if verdict.kind == "ok":
        return _worked(account, model, now, sent_at)
    reason = verdict.reason
    if reason is None:
        return account
    if verdict.scope == "model" and (model == ALL_MODELS or len(model) > LONGEST_MODEL):
        # A client may name its model so; that is no reason to cool the others.
        return account
    key = ALL_MODELS if verdict.scope == "account" else model
    before = account.cooldowns.get(key)
    until = _until(verdict, before, now, sent_at)
    if before is not None and _is_late(before, sent_at) and _covers(before, until, now):
        return account
    cooldown = Cooldown(until=until, reason=reason, message=verdict.message, since=now)
    return account.model_copy(update={"cooldowns": _bounded({**account.cooldowns, key: cooldown})})


def _bounded(cooldowns: dict[str, Cooldown]) -> dict[str, Cooldown]:
    """Model names come from clients, so there may be any number of them; the newest stay."""
    if len(cooldowns) <= MOST_COOLDOWNS:
        return cooldowns
    oldest = min(cooldowns.keys() - {ALL_MODELS}, key=lambda key: cooldowns[key].since)
    return {key: cooldown for key, cooldown in cooldowns.items() if key != oldest}


def _covers(before: Cooldown, until: int | None, now: int) -> bool:
    """A cooldown that ends hardly earlier stays: what was on its way fails all at once."""
    if before.is_over(now):
        return False
    if before.until is None:
        return True
    return until is not None and until - before.until <= max(SECOND, (until - now) // 10)


def _is_late(before: Cooldown, sent_at: int | None) -> bool:
    return sent_at is None or sent_at <= before.since


def _until(verdict: Verdict, before: Cooldown | None, now: int, sent_at: int | None) -> int | None:
    if verdict.kind not in _BACKOFF:
        return verdict.until
    first, longest = _BACKOFF[verdict.kind]
    length = first if verdict.until is None else max(SECOND, verdict.until - now)
    if before is not None and before.reason == verdict.kind and _failed_again(before, now, sent_at):
        length = max(length, 2 * (_length(before)))
    return now + min(length, longest)


def _failed_again(before: Cooldown, now: int, sent_at: int | None) -> bool:
    """The attempt began after the last wait was over, and not long after."""
    if before.until is None or (sent_at is not None and sent_at < before.until):
        return False
    return 0 <= now - before.until <= _REMEMBERED


def _length(cooldown: Cooldown) -> int:
    return max(0, (cooldown.until or 0) - cooldown.since)


def _worked(account: Account, model: str, now: int, sent_at: int | None) -> Account:
    kept = {
        key: cooldown
        for key, cooldown in account.cooldowns.items()
        if key not in (ALL_MODELS, model)
        or not (cooldown.is_over(now) or (sent_at is not None and sent_at > cooldown.since))
    }
    changes: dict[str, object] = {}
    if len(kept) != len(account.cooldowns):
        changes["cooldowns"] = kept
    limited_until = account.rate_limit_reset_at
    if limited_until and (limited_until <= now or (sent_at or 0) > (account.last_used or 0)):
        changes["rate_limit_reset_at"] = None
    return account.model_copy(update=changes) if changes else account
