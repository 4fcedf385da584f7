"""What was learned about accounts and is not on disk, or not yet. Pure.

The disk wins as soon as it shows that it knows: it holds what other processes learned, and what a
person cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .cooldown import Cooldown
from .model import Account
from .resets import HOUR, SECOND
from .verdicts import PASSING


@dataclass(frozen=True, slots=True)
class _Learned:
    cooldown: Cooldown | None
    """None: it is over."""
    at: int


#: Counted from its end, for how long a failure makes the next wait longer, and no more.
_KEPT: Final = HOUR
#: By then it was written down, so that a file without it is one from which it was cleared.
_WRITTEN_AFTER: Final = 5 * SECOND


class Overlay:
    """The cooldowns of accounts as they are on disk, with what was learned since."""

    def __init__(self) -> None:
        self._disk: dict[str, Account] = {}
        self._learned: dict[str, dict[str, _Learned]] = {}
        self._views: dict[str, Account] = {}

    def load(self, accounts: Sequence[Account], now: int, *, writing: bool = False) -> None:
        """The accounts were read from disk; ``writing``: what was learned may not be there yet."""
        self._disk = {account.name: account for account in accounts}
        self._views = {}
        known = self._learned
        self._learned = {}
        for name, learned in known.items():
            account = self._disk.get(name)
            if account is None:
                continue
            left = {k: v for k, v in learned.items() if not _is_known(account, k, v, now, writing)}
            if left:
                self._learned[name] = left
                self._views[name] = _merged(account, left)

    def disk(self, name: str) -> Account | None:
        return self._disk.get(name)

    def view(self, account: Account) -> Account:
        """The account with what was learned of it."""
        return self._views.get(account.name, account)

    def put(self, before: Account, after: Account, now: int) -> None:
        """Two views of one account: what is between them was learned now."""
        if after is before:
            return
        learned = self._learned.setdefault(after.name, {})
        for key in before.cooldowns.keys() | after.cooldowns.keys():
            cooldown = after.cooldowns.get(key)
            if cooldown is not before.cooldowns.get(key):
                learned[key] = _Learned(cooldown, now)
        self._views[after.name] = after

    def forget(self, name: str) -> None:
        self._learned.pop(name, None)
        self._views.pop(name, None)


def _is_known(account: Account, key: str, learned: _Learned, now: int, writing: bool) -> bool:
    disk = account.cooldowns.get(key)
    passing = learned.cooldown is not None and learned.cooldown.reason in PASSING
    if not passing and not writing and now - learned.at >= _WRITTEN_AFTER:
        return True
    if learned.cooldown is None:
        return disk is None or disk.since > learned.at
    if disk is not None:
        return disk.since >= learned.cooldown.since
    until = learned.cooldown.until
    return until is not None and until + _KEPT < now


def _merged(account: Account, learned: dict[str, _Learned]) -> Account:
    cooldowns = dict(account.cooldowns)
    for key, what in learned.items():
        if what.cooldown is None:
            cooldowns.pop(key, None)
        else:
            cooldowns[key] = what.cooldown
    return account.model_copy(update={"cooldowns": cooldowns})
