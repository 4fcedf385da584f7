"""Hosts that resend the whole text so far with every chunk (qwen.md §2.10, quirk 1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

# A text of this length that comes whole a second time is a replay (qwen.md §2.10, quirk 1).
_REPLAY: Final = 64
_REPLAY_VARIETY: Final = 16
# So many deltas that each begin with all of the text before, and so much that this text tells.
_EXTENSIONS: Final = 3
_VARIETY: Final = 24
# The same of a text that ends before there could be more of it.
_EXTENSIONS_AT_END: Final = 2
_VARIETY_AT_END: Final = 12
_SEVERAL_WORDS: Final = re.compile(r"\w\W+\w")


def is_replay(text: str) -> bool:
    """Whether it is no chance when this text comes once more: a rule of ``=`` may well do so."""
    return len(text) >= _REPLAY and _variety(text) >= _REPLAY_VARIETY


class CumulativeDeltas:
    """Finds out from the first deltas whether a host sends running totals, and then undoes that.

    The first delta passes at once, and the first one that does not begin with all the text before
    it shows that they are what they should be. Deltas that do begin so are held back until they
    cannot be chance any more, or, when they turn out to be text of their own, are text again: a
    wrong suspicion delays and loses nothing. Where a running total breaks off, the search begins
    anew.

    ``certain`` says of the text so far and a delta that begins with it that this is a running total
    without more proof. With it nothing passes in haste: what is told apart is of use as a whole.
    """

    def __init__(self, *, certain: Callable[[str, str], bool] | None = None) -> None:
        self.settled = False
        """Every delta is new text, as it should be; ``new_text`` need not be asked any more."""
        self._certain = certain
        self._cumulative = False
        self._so_far = ""
        self._first = ""
        self._held: list[str] = []
        self._extensions = 0
        self._told = 0
        self._last_told = ""

    def new_text(self, delta: str) -> str:
        """What this delta adds to the text."""
        so_far = self._so_far
        if self.settled:
            return delta
        if not so_far:
            self._begin(delta)
            return delta
        if not delta.startswith(so_far):
            return self._other_text(delta)
        if self._cumulative:
            self._so_far = delta
            return delta[len(so_far) :]
        if self._certain is None:
            return self._suspect(delta, hasty=True)
        if self._certain(so_far, delta) and (proved := self._proved_by(delta)) is not None:
            return proved
        return self._suspect(delta, hasty=False)

    @property
    def held(self) -> str:
        """The text that ``rest`` would give."""
        if not self._held:
            return ""
        return self._gain() if self._is_proved_at_end() else "".join(self._held)

    def rest(self) -> str:
        """The text that was held back, when its item ends."""
        if not self._held:
            return ""
        if self._is_proved_at_end():
            return self._undone()
        held = self.held
        self._begin("")
        return held

    def _begin(self, delta: str) -> None:
        self._so_far = self._first = delta
        self._held = []
        self._extensions = 0
        self._told = 0
        self._last_told = ""

    def _other_text(self, delta: str) -> str:
        if self._cumulative:
            # After a tool call, for example; or the host sends deltas from here on.
            self._cumulative = False
            self._begin(delta)
            return delta
        self.settled = True
        held, self._held = self._held, []
        return "".join(held) + delta

    def _proved_by(self, delta: str) -> str | None:
        so_far = self._so_far
        if delta == so_far:
            return "" if len(delta) > 1 else None
        if _repeats(so_far, delta[len(so_far) :]):
            return None
        self._held.append(delta)
        return self._undone()

    def _suspect(self, delta: str, *, hasty: bool) -> str:
        so_far = self._so_far
        if hasty and delta == so_far and not self._held and not is_replay(delta):
            self.settled = True
            return delta
        self._held.append(delta)
        # "=" "==" "====" and "ha" "haha" are as likely written so.
        if delta != so_far and not delta.startswith(delta[len(self._first) :]):
            self._extensions += 1
            self._told += _variety(so_far)
            self._last_told = so_far
        self._so_far = delta
        if self._extensions >= _EXTENSIONS and self._told >= _VARIETY:
            return self._undone()
        return ""

    def _is_proved_at_end(self) -> bool:
        if is_replay(self._first) and (self._extensions or self._so_far == self._first):
            return True
        tells = self._told >= _VARIETY_AT_END or _SEVERAL_WORDS.search(self._last_told)
        return self._extensions >= _EXTENSIONS_AT_END and bool(tells)

    def _undone(self) -> str:
        """What the held running totals add to the delta that has passed."""
        self._cumulative = True
        gain = self._gain()
        self._so_far = self._held[-1]
        self._held = []
        return gain

    def _gain(self) -> str:
        return self._held[-1][len(self._first) :]


def _variety(text: str) -> int:
    """How much a text tells: a run of one character nothing."""
    return len(set(text)) - 1


def _repeats(so_far: str, addition: str) -> bool:
    return so_far.startswith(addition) or addition.startswith(so_far)
