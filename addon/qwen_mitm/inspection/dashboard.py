"""One line per turn, for the list of flows, and its mark. Pure."""

from __future__ import annotations

from typing import Final

from qwen_mitm.inspection.record import Record, Tokens
from qwen_mitm.turn import Turn

FAILED: Final = ":x:"
FAILED_OVER: Final = ":repeat:"
WARNED: Final = ":warning:"
#: Those that a turn gets here. Any other is a person's.
MARKS: Final = frozenset({FAILED, FAILED_OVER, WARNED})

_LONGEST_REASON: Final = 100
#: A shorter answer came in one piece.
_SHORTEST_STREAM_S: Final = 0.05


def line_of(record: Record) -> str:
    """A turn that is over: ``MODEL · 41.2k in (38.0k cached) → 812 out · …``."""
    words = [record.model or "request"]
    if record.status not in ("completed", ""):
        words.append(record.status)
    if record.tokens is not None:
        words.append(tokens_in_words(record.tokens))
    if record.first_token_s is not None and record.streams:
        words.append(f"first token {record.first_token_s:.2f} s")
        if rate := _rate(record):
            words.append(rate)
    words += [record.cost] if record.cost else []
    words += _who(record.account, record.failovers)
    words += ["edited"] if record.edited else []
    if reason := _reason(record):
        words.append(shortened(reason, _LONGEST_REASON))
    elif record.warnings:
        words.append(shortened(record.warnings, _LONGEST_REASON))
    return " · ".join(words)


def line_so_far(turn: Turn) -> str:
    """A turn that runs. It costs nothing that grows with the answer."""
    elapsed = turn.clock() - turn.began_at
    answered = turn.first_event_at
    words = [turn.model or "request"]
    if answered is None:
        words.append(f"waiting {elapsed:.0f} s")
    else:
        words.append(f"{len(turn.upstream)} pieces in {elapsed:.0f} s")
        words.append(f"first token {answered - turn.began_at:.2f} s")
    account = turn.attempts[-1].account if turn.attempts else ""
    return " · ".join([*words, *_who(account, max(0, len(turn.attempts) - 1))])


def mark_of(record: Record) -> str:
    """Empty for a turn in which nothing happened that a person should see."""
    if record.failed:
        return FAILED
    if record.failovers:
        return FAILED_OVER
    return WARNED if record.warnings or record.status == "incomplete" else ""


def tokens_in_words(tokens: Tokens) -> str:
    guess = "~" if tokens.estimated else ""
    cached = f" ({guess}{compact(tokens.cached)} cached)" if tokens.cached else ""
    return f"{guess}{compact(tokens.input)} in{cached} → {guess}{compact(tokens.output)} out"


def compact(number: int) -> str:
    """``812``, ``41.2k``, ``412k``, ``1.2M``."""
    if number < 1_000:
        return str(number)
    if number < 99_950:
        return f"{number / 1_000:.1f}k"
    return f"{number / 1_000:.0f}k" if number < 999_500 else f"{number / 1_000_000:.1f}M"


def shortened(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _who(account: str, failovers: int) -> list[str]:
    words = [f"account {account}"] if account else []
    if failovers:
        words.append(f"{failovers} failover{'s' * (failovers > 1)}")
    return words


def _rate(record: Record) -> str:
    if record.tokens is None or record.first_token_s is None:
        return ""
    took = record.ended_s - record.first_token_s
    if took < _SHORTEST_STREAM_S or not record.tokens.output:
        return ""
    guess = "~" if record.tokens.estimated else ""
    return f"{guess}{record.tokens.output / took:.0f} tok/s"


def _reason(record: Record) -> str:
    if record.refusal is not None:
        return f"{record.refusal.status}: {record.refusal.message}"
    match record.error:
        case {"message": str(message)}:
            return message
    match record.incomplete:
        case {"reason": str(reason)}:
            return reason
    return record.failure or ""
