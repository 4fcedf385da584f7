"""How far this machine's clock is off, by the ``Date`` of what an upstream answered. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from qwen_mitm.headers import header_value
from qwen_mitm.journey import Journey
from qwen_mitm.status import Skew


def seconds_ahead(date: str | None, received_at: float) -> float | None:
    """By how much a clock that showed ``received_at`` is ahead; None when there is no such date."""
    try:
        # It has whole seconds: half a second is the best guess for the rest.
        return received_at - parsedate_to_datetime(date or "").timestamp() - 0.5
    except (ValueError, OverflowError):
        return None


def skew_of(journey: Journey, clock: float, now: float) -> Skew | None:
    """What the last answer of a journey shows; ``clock`` is what its own clock says ``now``."""
    attempt = journey.attempts[-1] if journey.attempts else None
    if attempt is None or attempt.head_at is None:
        return None
    date = header_value(journey.upstream_fields, b"date")
    seconds = seconds_ahead(date, now - (clock - attempt.head_at))
    if seconds is None:
        return None
    return Skew(seconds=round(seconds, 1), host=urlsplit(attempt.url).hostname or "")
