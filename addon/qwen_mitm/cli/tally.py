"""The summary of a run: what its turns took, in all and by account."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from statistics import median

from qwen_mitm.reports import TurnEnded

_GOOD = ("completed", "incomplete")


@dataclass(slots=True)
class _Share:
    turns: int = 0
    left: int = 0
    """So often another account was tried next."""
    given: int = 0
    cached: int = 0
    got: int = 0
    has_estimates: bool = False

    def add(self, turn: TurnEnded) -> None:
        self.turns += 1
        self.given += turn.tokens.input
        self.cached += turn.tokens.cached
        self.got += turn.tokens.output
        self.has_estimates |= turn.tokens.estimated

    def tokens(self) -> list[str]:
        if not self.given and not self.got:
            return []
        guess = "~" if self.has_estimates else ""
        share = f" ({self.cached / self.given:.0%} cached)" if self.given else ""
        return [f"{guess}{self.given:,} in{share}, {guess}{self.got:,} out"]


@dataclass(slots=True)
class Tally:
    """Of a turn it keeps the time to its first event and nothing else; runs may last for weeks."""

    refused: int = 0
    """Requests that did not become turns."""
    _whole: _Share = field(default_factory=_Share)
    _accounts: dict[str, _Share] = field(default_factory=dict)
    _waits: array[float] = field(default_factory=lambda: array("f"))
    _failovers: int = 0
    _failed: int = 0

    def add(self, turn: TurnEnded) -> None:
        self._whole.add(turn)
        self._failed += turn.outcome not in _GOOD
        if turn.first_event_s is not None:
            self._waits.append(turn.first_event_s)
        for attempt in turn.tries:
            self._accounts.setdefault(attempt.account, _Share())
        for attempt in turn.tries[:-1]:
            self._accounts[attempt.account].left += 1
            self._failovers += 1
        if turn.tries:
            # One that was only tried has no part in it.
            self._accounts[turn.tries[-1].account].add(turn)

    def lines(self) -> list[str]:
        failed = self.refused + self._failed
        turns = self.refused + self._whole.turns
        if not turns:
            return ["no turn"]
        words = [_count(turns, "turn"), *self._whole.tokens()]
        words += [f"first event {median(self._waits):.2f} s (median)"] if self._waits else []
        words += [_count(self._failovers, "failover")] if self._failovers else []
        words += [f"{failed} failed"] if failed else []
        if len(self._accounts) == 1:
            words.append(f"account {next(iter(self._accounts))}")
            return [" · ".join(words)]
        return [" · ".join(words), *(_line(*item) for item in self._accounts.items())]


def _line(name: str, share: _Share) -> str:
    words = [_count(share.turns, "turn"), *share.tokens()]
    words += [f"left for another account {_count(share.left, 'time')}"] if share.left else []
    return f"  {name}: {' · '.join(words)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
