"""The summary of a run: what its turns took, in all and by account."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from qwen_mitm.reports import TurnEnded

_GOOD = ("completed", "incomplete")


def summary(turns: Sequence[TurnEnded], refused: int) -> list[str]:
    """Its lines; ``refused`` requests did not become turns."""
    failed = refused + sum(turn.outcome not in _GOOD for turn in turns)
    if not turns and not failed:
        return ["no turn"]
    words = [_count(len(turns) + refused, "turn"), *_tokens(turns)]
    waits = [turn.first_event_s for turn in turns if turn.first_event_s is not None]
    if waits:
        words.append(f"first event {median(waits):.2f} s (median)")
    failovers = sum(_failovers(turn) for turn in turns)
    words += [_count(failovers, "failover")] if failovers else []
    words += [f"{failed} failed"] if failed else []
    accounts = _by_account(turns)
    lines = [" · ".join(words)]
    if len(accounts) > 1:
        lines += [_account_line(name, its, turns) for name, its in accounts.items()]
    elif accounts:
        lines[0] += f" · account {next(iter(accounts))}"
    return lines


def _by_account(turns: Sequence[TurnEnded]) -> dict[str, list[TurnEnded]]:
    """The turns that each account answered; one that was only tried has none."""
    accounts: dict[str, list[TurnEnded]] = {}
    for turn in turns:
        for attempt in turn.tries:
            accounts.setdefault(attempt.account, [])
        if turn.tries:
            accounts[turn.tries[-1].account].append(turn)
    return accounts


def _account_line(name: str, its: Sequence[TurnEnded], turns: Sequence[TurnEnded]) -> str:
    left = sum(attempt.account == name for turn in turns for attempt in turn.tries[:-1])
    words = [_count(len(its), "turn"), *_tokens(its)]
    words += [f"left for another account {_count(left, 'time')}"] if left else []
    return f"  {name}: {' · '.join(words)}"


def _tokens(turns: Sequence[TurnEnded]) -> list[str]:
    given = sum(turn.tokens.input for turn in turns)
    got = sum(turn.tokens.output for turn in turns)
    if not given and not got:
        return []
    guess = "~" if any(turn.tokens.estimated for turn in turns) else ""
    cached = sum(turn.tokens.cached for turn in turns)
    share = f" ({cached / given:.0%} cached)" if given else ""
    return [f"{guess}{given:,} in{share}, {guess}{got:,} out"]


def _failovers(turn: TurnEnded) -> int:
    return max(0, len(turn.tries) - 1)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
