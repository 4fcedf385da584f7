"""Which account is next. Pure: time is an argument, and nothing is read or written.

:class:`Pool` knows what is not on disk: the place in the rotation, where conversations live, and
what was just learned and is still to be written down. Its calls must not overlap.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal

from .exhausted import Exhausted, state_of
from .homes import Homes
from .model import Account
from .overlay import Overlay
from .resets import MINUTE
from .roster import Roster, Standing, standing
from .verdicts import PASSING, Verdict, apply

type Strategy = Literal["round-robin", "sequential", "sticky"]
type Change = Callable[[Account], Account]

#: Model names come from clients, so there may be any number of them.
MOST_ROSTERS: Final = 32
#: How long one request may take to find out whether an account works again.
PROBE_PATIENCE: Final = MINUTE
#: Where no account is left that waiting would bring back, the others are asked this often.
LAST_RESORT_AFTER: Final = MINUTE


class Pool:
    """Chooses accounts.

    ``start`` is where the rotation begins, so that several processes need not begin with the same
    account. ``has_twins`` are processes that get the turns of the same conversations: where one
    lives is then drawn by its name, and all come to the same account without a word.
    """

    def __init__(self, *, start: int = 0, has_twins: bool = False) -> None:
        self._start = start
        self._has_twins = has_twins
        self.writing = False
        """The accounts were read while what was learned was on its way to the disk."""
        self._accounts: Sequence[Account] = ()
        self._overlay = Overlay()
        self._rosters: OrderedDict[str, Roster] = OrderedDict()
        self._homes = Homes()
        self._probed_until: dict[str, int] = {}
        self._probed_at: dict[str, int] = {}

    def pick(
        self,
        accounts: Sequence[Account],
        *,
        strategy: Strategy,
        model: str,
        conversation: str | None = None,
        tried: Collection[str] = (),
        now: int,
    ) -> Account | None:
        """The account for the next attempt; None: each is tried, cooling or cannot be used.

        An account that is cooling is given to one request when it is due to be re-probed, and to
        any when its host merely fails and nobody else is free. One that is the only candidate is
        given always: the upstream knows better than we do.
        """
        roster = self._roster(accounts, model, now)
        place = self._choose(roster, strategy, conversation, tried, now)
        if place is None:
            place = self._unless_free(roster, tried, now)
        if place is None:
            return None
        return self._overlay.view(roster.accounts[place])

    def note(
        self, name: str, model: str, verdict: Verdict, now: int, *, sent_at: int | None = None
    ) -> Change | None:
        """Remember how an attempt ended; ``sent_at`` is when it began (see :func:`apply`).

        Returns:
            What is to be done to the account on disk; None: nothing.
        """
        if sent_at is None:
            sent_at = self._probed_at.get(name)
        self._probed_until.pop(name, None)
        self._probed_at.pop(name, None)
        disk = self._overlay.disk(name)
        if disk is None:
            return None
        before = self._overlay.view(disk)
        after = apply(before, verdict, model, now, sent_at=sent_at)
        self._overlay.put(before, after, now)
        self._renew(name, now)

        def change(account: Account) -> Account:
            return apply(account, verdict, model, now, sent_at=sent_at)

        if after is before or verdict.kind in PASSING or change(disk) is disk:
            return None
        return change

    def forget(self, name: str, now: int) -> None:
        """Drop what was learned of that account: its cooldowns were cleared, or it is new."""
        self._overlay.forget(name)
        self._probed_until.pop(name, None)
        self._probed_at.pop(name, None)
        self._renew(name, now)

    def view(self, account: Account) -> Account:
        """The account as it is on disk, with what was learned since."""
        return self._overlay.view(account)

    def exhausted(
        self,
        accounts: Sequence[Account],
        model: str,
        now: int,
        *,
        without: Collection[str] = (),
    ) -> Exhausted:
        """Why :meth:`pick` gave nobody, account by account, but for those left out."""
        self._roster(accounts, model, now)
        asked = [account for account in accounts if account.name not in without]
        found = [(account.name, self._standing(account, model, now)) for account in asked]
        views = [self._overlay.view(account) for account in asked]
        # To wait for a host that merely fails would multiply the client's own retries.
        limits = [s.cooldown for _, s in found if s.lives and s.cooldown is not None]
        ends = [limit.until for limit in limits if limit.reason != "transient"]
        return Exhausted(
            retry_at=min((end for end in ends if end is not None), default=None),
            states=tuple(
                state_of(view, s.cooldown) for view, (_, s) in zip(views, found, strict=True)
            ),
            reasons=frozenset(s.cooldown.reason if s.cooldown else s.state for _, s in found),
        )

    # The accounts -------------------------------------------------------------------------------

    def _roster(self, accounts: Sequence[Account], model: str, now: int) -> Roster:
        if accounts is not self._accounts:
            self._accounts = accounts
            self._overlay.load(accounts, now, writing=self.writing)
            for roster in self._rosters.values():
                roster.unload()
        found = self._rosters.get(model)
        if found is None:
            found = Roster(model, lambda account, at: self._standing(account, model, at))
            self._rosters[model] = found
            if len(self._rosters) > MOST_ROSTERS:
                self._rosters.popitem(last=False)
        self._rosters.move_to_end(model)
        if found.accounts is not accounts:
            found.load(accounts, now, self._start)
        found.advance(now)
        return found

    def _standing(self, account: Account, model: str, now: int) -> Standing:
        probed_until = self._probed_until.get(account.name, 0)
        if probed_until > now + PROBE_PATIENCE:
            probed_until = 0
        return standing(self._overlay.view(account), model, now, probed_until=probed_until)

    def _renew(self, name: str, now: int) -> None:
        for roster in self._rosters.values():
            roster.renew(name, now)

    def _probe(self, name: str, now: int) -> None:
        self._probed_at[name] = now
        self._probed_until[name] = now + PROBE_PATIENCE
        self._renew(name, now)

    # The strategies -----------------------------------------------------------------------------

    def _choose(
        self,
        roster: Roster,
        strategy: Strategy,
        conversation: str | None,
        tried: Collection[str],
        now: int,
    ) -> int | None:
        """The place of a free account, or of one to re-probe while there are free ones."""
        match strategy:
            case "sequential":
                return roster.stay(tried)
            case "sticky" if conversation is not None:
                return self._sticky(roster, conversation, tried, now)
        place = roster.next_free(tried)
        if place is None:
            return None
        due = self._to_probe(roster, tried, now)
        if due is not None:
            return due
        roster.move_to(place)
        return place

    def _to_probe(self, roster: Roster, tried: Collection[str], now: int) -> int | None:
        """First attempts alone re-probe, so that a failure costs a request one attempt."""
        due = None if tried else roster.next_due(tried)
        if due is not None:
            self._probe(roster.accounts[due].name, now)
        return due

    def _sticky(
        self, roster: Roster, conversation: str, tried: Collection[str], now: int
    ) -> int | None:
        home = self._homes.of(conversation, now)
        if home is not None and roster.is_free(home):
            return roster.next_free(tried) if home in tried else roster.places[home]
        first = roster.next_free(tried)
        if first is None:
            return None
        place = self._to_probe(roster, tried, now)
        if place is None:
            place = self._new_home(roster, conversation, tried, first)
            roster.move_to(first)
        self._homes.settle(conversation, roster.accounts[place].name, now)
        return place

    def _new_home(
        self, roster: Roster, conversation: str, tried: Collection[str], first: int
    ) -> int:
        drawn = roster.drawn_free(conversation, tried) if self._has_twins else None
        if drawn is not None:
            return drawn
        return self._less_settled(roster, first, roster.next_free(tried, after=first))

    def _less_settled(self, roster: Roster, first: int, second: int | None) -> int:
        """Whichever of the next two accounts has fewer conversations.

        To take the emptiest of all would send every new conversation to an account that has just
        come back; the turn alone would leave it empty for long.
        """
        if second is None:
            return first
        one, other = (self._homes.count(roster.accounts[place].name) for place in (first, second))
        return first if one <= other else second

    def _unless_free(self, roster: Roster, tried: Collection[str], now: int) -> int | None:
        place = roster.next_due(tried)
        if place is None:
            # No limit keeps these, and what fails may be a single request: were they left alone,
            # one that makes each host fail would lock out everybody.
            failing = roster.next_failing(tried)
            if failing is not None:
                return failing
            place = self._last_resort(roster, tried, now)
        if place is not None:
            self._probe(roster.accounts[place].name, now)
        return place

    def _last_resort(self, roster: Roster, tried: Collection[str], now: int) -> int | None:
        """The only candidate; where none lives, those that failed longest ago."""
        sole = roster.living or roster.candidates
        if len(sole) == 1:
            (place,) = sole
            return None if roster.accounts[place].name in tried else place
        if roster.living:
            return None
        asked = {place: self._asked_at(roster, place, now) for place in roster.candidates}
        waiting = [
            place
            for place, at in asked.items()
            if roster.accounts[place].name not in tried and not now - LAST_RESORT_AFTER < at <= now
        ]
        return min(waiting, key=lambda place: (asked[place], place), default=None)

    def _asked_at(self, roster: Roster, place: int, now: int) -> int:
        account = roster.accounts[place]
        found = self._standing(account, roster.model, now).cooldown
        probed_at = self._probed_at.get(account.name, 0)
        return max(probed_at, found.since if found else 0)
