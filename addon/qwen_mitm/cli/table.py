"""What `qwen-mitm accounts` shows of an account, for people and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal

from rich.table import Table
from rich.text import Text

from qwen_mitm.accounts.cooldown import ALL_MODELS, Cooldown
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.shown import (
    REASONS,
    in_words,
    kind,
    limited_models,
    provider_name,
    state,
    used_today,
    wire,
)

from .speech import clean

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 366 * _DAY
_COLUMNS: Final = ("name", "kind", "provider", "state", "until", "last used", "requests", "tokens")
_NUMBERS: Final = frozenset({"requests", "tokens"})
_WHOLE: Final = frozenset({"name", "kind", "provider", "last used"})


def accounts_table(
    accounts: Iterable[Account], now: int, default_url: str, zone: tzinfo | None = None
) -> Table:
    """For people. ``zone``: None for the one of this machine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        side: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        table.add_column(column, justify=side, overflow="fold", no_wrap=column in _WHOLE)
    for account in accounts:
        for row in _rows(account, now, default_url, zone):
            table.add_row(*row)
    return table


def _rows(
    account: Account, now: int, default_url: str, zone: tzinfo | None
) -> Iterator[tuple[Text, ...]]:
    what = state(account, now)
    whole = account.cooldown(ALL_MODELS, now) if what in REASONS else None
    requests, tokens = used_today(account, now)
    cells = (
        account.name,
        kind(account).replace("_", " "),
        _provider_and_wire(account, account.endpoint(default_url)),
        in_words(what),
        until(whole, now, zone),
        since(account.last_used, now),
        f"{requests:,}",
        f"{tokens:,}",
    )
    style = {"ok": "green", "disabled": "dim"}.get(what, "yellow")
    yield tuple(
        Text(_one_line(cell), style if column == "state" else "")
        for column, cell in zip(_COLUMNS, cells, strict=True)
    )
    for model, cooldown in limited_models(account, now):
        words = f"{model}: {in_words(cooldown.reason)}"
        detail = ("", "", "", words, until(cooldown, now, zone), "", "", "")
        yield tuple(Text(_one_line(cell), "dim") for cell in detail)


def remarks(accounts: Iterable[Account], now: int) -> list[str]:
    """What the upstreams said, account by account."""
    found = []
    for account in accounts:
        whole = account.cooldown(ALL_MODELS, now)
        if whole is not None and whole.message and state(account, now) in REASONS:
            found.append(f"{account.name}: {_one_line(whole.message)}")
        if state(account, now) == "needs_login":
            found.append(
                f"{account.name}: log in again: qwen-mitm login --provider oauth --name "
                f"{shlex.quote(account.name)}"
            )
    return [_one_line(remark) for remark in found]


def until(cooldown: Cooldown | None, now: int, zone: tzinfo | None = None) -> str:
    if cooldown is None:
        return ""
    if cooldown.until is None:
        return "it is cleared"
    left = cooldown.until - now
    return moment(cooldown.until, now, zone) + (f" (in {span(left)})" if left < _YEAR else "")


def since(at: int | None, now: int) -> str:
    if not at:
        return "never"
    return "just now" if now - at < _MINUTE else f"{span(now - at)} ago"


def moment(at: int, now: int, zone: tzinfo | None = None) -> str:
    """A time in local time, as short as it is clear."""
    try:
        when = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        # The largest date of JavaScript is beyond those of Python.
        return "the end of time"
    today = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)
    if when.date() == today.date():
        return f"{when:%H:%M}"
    return f"{when:%a %H:%M}" if 0 < at - now < 6 * _DAY else f"{when:%Y-%m-%d %H:%M}"


def span(ms: int) -> str:
    """A length of time in words, rounded up."""
    minutes = -(-max(ms, 0) // _MINUTE)
    if ms < _MINUTE:
        return f"{-(-max(ms, 0) // 1000)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days = -(-minutes // (24 * 60))
    return f"{days} days" if days > 1 else "1 day"


def _provider_and_wire(account: Account, base_url: str) -> str:
    name = provider_name(account, base_url)
    return f"{name} (responses)" if wire(account, base_url) == "responses" else name


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
