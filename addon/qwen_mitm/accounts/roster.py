"""Who is free for a model now: found without looking at every account again. Pure.

The accounts are looked at once; then each waits in a heap until its standing may change.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from .cooldown import Cooldown
from .model import Account
from .resets import HOUR, MINUTE

#: An account that is cooling is asked all the same so long after it failed last, by one request:
#: limits are lifted, plans are bought, and what upstreams say about the end is a guess.
REPROBE_AFTER: Final[dict[str, int]] = {
    "burst": 10 * MINUTE,
    "concurrency": MINUTE,
    "transient": 2 * MINUTE,
    "window": 30 * MINUTE,
    "spent": HOUR,
    "model": 6 * HOUR,
    "not_entitled": 12 * HOUR,
    "wrong_host": 12 * HOUR,
}
#: Cooldowns that no waiting ends.
LASTING: Final = frozenset({"not_entitled", "wrong_host", "model"})
#: The clock went back when a cooldown began this far in the future.
SKEW: Final = MINUTE

type State = Literal["out", "free", "due", "cooling"]


@dataclass(frozen=True, slots=True)
class Standing:
    """``out``: disabled, logged out or without a credential. ``due``: cooling, to be re-probed.

    ``changes_at`` is when to look again; None: only when something happens to the account.
    """

    state: State
    changes_at: int | None = None
    cooldown: Cooldown | None = None

    @property
    def lives(self) -> bool:
        """It may work again without somebody's help."""
        if self.state == "out":
            return False
        return self.cooldown is None or self.cooldown.reason not in LASTING


_OUT: Final = Standing("out")
_FREE: Final = Standing("free")


def standing(account: Account, model: str, now: int, *, probed_until: int = 0) -> Standing:
    """``probed_until``: a request is finding out, so nobody else is to until then."""
    cooldown = account.cooldown(model, now)
    if cooldown is None:
        return _FREE if account.is_usable(model, now) else _OUT
    if account.disabled or account.needs_login or not account.has_secret:
        return _OUT
    due_at = max(probed_until, cooldown.since + REPROBE_AFTER[cooldown.reason])
    if cooldown.since > now + SKEW:
        due_at = max(probed_until, now)
    end = cooldown.until
    if due_at <= now:
        return Standing("due", end, cooldown)
    return Standing("cooling", due_at if end is None else min(due_at, end), cooldown)


class Roster:
    """The standings of all accounts for one model, and the place in the rotation."""

    def __init__(self, model: str, look: Callable[[Account, int], Standing]) -> None:
        self.model = model
        self._look = look
        self.accounts: Sequence[Account] = ()
        self.places: dict[str, int] = {}
        self.last: str | None = None
        """The account that the rotation came to last."""
        self._cursor = -1
        self._standings: list[Standing] = []
        self._free: list[int] = []
        self._due: list[int] = []
        self._alarms: list[tuple[int, int]] = []
        self.candidates: set[int] = set()
        self.living: set[int] = set()
        self._now = 0

    def load(self, accounts: Sequence[Account], now: int, start: int = 0) -> None:
        """Look at all accounts; the rotation goes on after the account that it was at."""
        self.accounts = accounts
        self.places = {account.name: place for place, account in enumerate(accounts)}
        if self.last is None:
            self._cursor = start % len(accounts) - 1 if accounts else -1
        else:
            self._cursor = self.places.get(self.last, self._cursor - 1)
        self._look_at_all(now)

    def unload(self) -> None:
        """Forget the accounts until they are loaded again, but not the place in the rotation."""
        self.accounts = ()
        self.places = {}
        self._look_at_all(self._now)

    def _look_at_all(self, now: int) -> None:
        self._now = now
        self._standings = [self._look(account, now) for account in self.accounts]
        states = [standing.state for standing in self._standings]
        self._free = [place for place, state in enumerate(states) if state == "free"]
        self._due = [place for place, state in enumerate(states) if state == "due"]
        self.candidates = {place for place, state in enumerate(states) if state != "out"}
        self.living = {place for place, found in enumerate(self._standings) if found.lives}
        self._alarms = [
            (found.changes_at, place)
            for place, found in enumerate(self._standings)
            if found.changes_at is not None
        ]
        heapify(self._alarms)

    def advance(self, now: int) -> None:
        """Bring the standings to this time."""
        if now < self._now - SKEW:
            self._look_at_all(now)
        self._now = now
        while self._alarms and self._alarms[0][0] <= now:
            _, place = heappop(self._alarms)
            self._renew(place, now)

    def renew(self, name: str, now: int) -> None:
        """Something happened to that account."""
        if name in self.places:
            self._renew(self.places[name], now)

    def _renew(self, place: int, now: int) -> None:
        before, after = self._standings[place], self._look(self.accounts[place], now)
        if after == before:
            return
        self._standings[place] = after
        _move(self._free, place, present=after.state == "free")
        _move(self._due, place, present=after.state == "due")
        (self.candidates.discard if after.state == "out" else self.candidates.add)(place)
        (self.living.add if after.lives else self.living.discard)(place)
        if after.changes_at is not None:
            heappush(self._alarms, (max(after.changes_at, now + 1), place))

    def is_free(self, name: str) -> bool:
        place = self.places.get(name)
        return place is not None and self._standings[place].state == "free"

    def next_free(self, tried: Collection[str], after: int | None = None) -> int | None:
        """The next free account round the table, from the rotation's place or another one."""
        free = self._free
        start = bisect_right(free, self._cursor if after is None else after)
        for step in range(len(free)):
            place = free[(start + step) % len(free)]
            if self.accounts[place].name not in tried:
                return place
        return None

    def drawn_free(self, lot: str, tried: Collection[str]) -> int | None:
        """The same one of the free accounts for a lot, wherever it is drawn.

        When accounts come or go, only the lots of those move (rendezvous hashing).
        """

        def rank(place: int) -> bytes:
            name = self.accounts[place].name
            ticket = f"{name}\n{lot}".encode("utf-8", "replace")
            return hashlib.blake2b(ticket, digest_size=8).digest()

        untried = (place for place in self._free if self.accounts[place].name not in tried)
        return max(untried, key=rank, default=None)

    def stay(self, tried: Collection[str]) -> int | None:
        """The account that the rotation is at while that is free, else the next."""
        if self.last is None:
            place = self.next_free(tried, after=-1)
        elif not self.is_free(self.last):
            place = self.next_free(tried)
        elif self.last in tried:
            return self.next_free(tried)
        else:
            return self.places[self.last]
        if place is not None:
            self.move_to(place)
        return place

    def next_due(self, tried: Collection[str]) -> int | None:
        """One to be re-probed, before all of those that waiting may bring back."""
        due = (place for place in self._due if self.accounts[place].name not in tried)
        place = next(due, None)
        if place is None or place in self.living:
            return place
        return next((other for other in due if other in self.living), place)

    def next_failing(self, tried: Collection[str]) -> int | None:
        """One whose host fails without a limit, the first to be over of them."""
        ends = (
            (found.cooldown.until or 0, place)
            for place, found in enumerate(self._standings)
            if found.cooldown is not None and found.cooldown.reason == "transient"
            if found.state == "cooling" and self.accounts[place].name not in tried
        )
        return min(ends, default=(0, None))[1]

    def move_to(self, place: int) -> None:
        self._cursor = place
        self.last = self.accounts[place].name


def _move(places: list[int], place: int, *, present: bool) -> None:
    index = bisect_left(places, place)
    is_there = index < len(places) and places[index] == place
    if present and not is_there:
        insort(places, place)
    elif is_there and not present:
        del places[index]
