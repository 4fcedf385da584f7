"""What holds in the proxy at one moment, beside what was counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen_mitm.accounts.model import Account
from qwen_mitm.status import Status


@dataclass(frozen=True, slots=True)
class Present:
    status: Status
    accounts: Sequence[Account]
    """With what was learned of them since they were read."""
    problem: str | None
    """Why there are none."""
    open_streams: int
    now_ms: int
    base_url: str
    """Of accounts that have none of their own."""
    currency: str
    """Of the prices."""
