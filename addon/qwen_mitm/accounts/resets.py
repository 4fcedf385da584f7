"""When a limit ends: ``retry-after`` in its forms, dates in error texts, and the plans' calendar.

Times are ms since 1970. The plans count in UTC+8 (qwen.md §2.7). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Final

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_CHINA: Final = timezone(timedelta(hours=8))
#: Further away is a mistake, or another unit.
_FURTHEST: Final = 35 * DAY
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_IN_WORDS: Final = re.compile(
    r"(?:try again|retry|reset|resets)\s+(?:again\s+)?(?:in|after)\s+"
    r"(?:(\d{1,4})\s*h(?:ours?|rs?)?\s*)?(?:(\d{1,5})\s*m(?:in(?:ute)?s?)?(?![a-z])\s*)?"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s))?",
    re.IGNORECASE,
)
_DATE: Final = re.compile(
    r"\breset\w*\s+(?:at|on)\s+(\d{4})-(\d{2})-(\d{2})[ T](\d{2}):(\d{2})(?::(\d{2}))?"
    r"(?:\.\d+)?\s*(Z|UTC(?!\+)|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)


def retry_after(headers: Mapping[str, str], message: str, now: int) -> int | None:
    """When the upstream wants to be asked again: its headers, else its words, else None.

    ``retry-after-ms``, ``retry-after`` in seconds or as a date, ``x-ratelimit-reset`` of a used-up
    limit; "try again in 20s". Dates are read by the answer's own clock when it shows it.
    """
    wait = _number(headers.get("retry-after-ms", ""))
    if wait is None:
        text = headers.get("retry-after", "")
        seconds = _number(text)
        wait = _until_date(text, headers, now) if seconds is None else seconds * SECOND
    if wait is None:
        wait = _ratelimit_reset(headers, now)
    if wait is None:
        wait = _in_words(message)
    return None if wait is None else now + min(max(0, round(wait)), _FURTHEST)


def named_reset(message: str, now: int) -> int | None:
    """The date and time in an error's words, in China's time unless they say; None: none ahead."""
    found = _DATE.search(message)
    if found is None:
        return None
    *digits, zone = found.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in digits)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=_zone(zone))
        reset = _ms(moment)
    except (ValueError, OverflowError):
        return None
    return reset if now < reset <= now + _FURTHEST else None


def midnight(now: int) -> int:
    """The next 00:00 UTC+8."""
    return _ms(_day(now) + timedelta(days=1))


def monday(now: int) -> int:
    """The next Monday, 00:00 UTC+8."""
    today = _day(now)
    return _ms(today + timedelta(days=7 - today.weekday()))


def first_of_month(now: int) -> int:
    """The first of the next month, 00:00 UTC+8."""
    return _ms((_day(now).replace(day=1) + timedelta(days=32)).replace(day=1))


def _day(now: int) -> datetime:
    local = datetime.fromtimestamp(now / SECOND, _CHINA)
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * SECOND)


def _zone(text: str | None) -> timezone:
    if text is None:
        return _CHINA
    if text.upper() in ("Z", "UTC"):
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(offset if text[0] == "+" else -offset)


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _until_date(text: str, headers: Mapping[str, str], now: int) -> float | None:
    moment = _http_date(text)
    if moment is None:
        return None
    shown = _http_date(headers.get("date", ""))
    return moment - (now if shown is None else shown)


def _http_date(text: str) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
        # "-0000" stands for UTC of unknown place; the library then gives a time without a zone.
        return _ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _ratelimit_reset(headers: Mapping[str, str], now: int) -> float | None:
    """OpenRouter writes ms since 1970, others seconds since 1970 or seconds to go."""
    if _number(headers.get("x-ratelimit-remaining", "0")) != 0:
        return None
    reset = _number(headers.get("x-ratelimit-reset", ""))
    if reset is None:
        return None
    if reset < 1e9:
        return reset * SECOND
    shown = _http_date(headers.get("date", ""))
    return (reset if reset >= 1e12 else reset * SECOND) - (now if shown is None else shown)


def _in_words(message: str) -> float | None:
    found = _IN_WORDS.search(message)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, amount, unit = found.groups()
    wait = int(hours or 0) * HOUR + int(minutes or 0) * MINUTE
    return wait + float(amount or 0) * (1 if unit and unit.lower() == "ms" else SECOND)
