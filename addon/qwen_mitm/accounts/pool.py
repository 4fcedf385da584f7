"""Which account is next. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .model import Account


def pick(accounts: Sequence[Account], *, tried: Collection[str] = ()) -> Account | None:
    """The first account that can be used and was not tried for this request; None: there is none.

    Rotation and cooldowns are the strategies' work; they replace the order, not this question.
    """
    for account in accounts:
        if not account.disabled and account.credential and account.name not in tried:
            return account
    return None
