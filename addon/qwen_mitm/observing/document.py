"""What the status page shows, as ``status.json`` has it. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class DayTotal(_Shown):
    """What an account did on one day, UTC."""

    date: str
    account: str
    turns: int = 0
    failed: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cost: float = 0.0
    """In the present currency, as far as there were prices."""


class Moment(_Shown):
    """A streamed turn that was answered."""

    at: float
    """Seconds since 1970."""
    model: str
    account: str
    first_event_s: float
    tokens_per_second: float | None


class Mishap(_Shown):
    """A request whose client got no whole answer."""

    at: float
    kind: str
    model: str = ""
    message: str
    explanation: str
    to_do: str
    attempts: tuple[str, ...] = ()


class Observed(_Shown):
    """Times without a unit in their name are ms since 1970."""

    now: int
    since: int
    """When this proxy began to count."""
    open_streams: int
    accounts: tuple[dict[str, JsonValue], ...]
    """As ``qwen-mitm accounts --json`` has them."""
    accounts_problem: str | None
    days: tuple[DayTotal, ...]
    currency: str
    days_kept: int
    """On disk; 0: ``days`` are of this proxy, since it began."""
    moments: tuple[Moment, ...]
    failures: tuple[Mishap, ...]
    """The last one first."""
