"""Hosts that resend the whole text so far with every chunk (qwen.md §2.10, quirk 1)."""

from __future__ import annotations

from collections.abc import Callable


class CumulativeDeltas:
    """Finds out from the first deltas whether a host sends running totals, and then undoes that.

    A host is believed to do so only when a delta extends all the text before it and either that
    text is so telling (``certain``) that this cannot be chance, or the next delta extends it once
    more; until then the one suspicious delta is held back. Repetition ("ha" "ha") is no extension:
    it passes at once, except that a telling text of at least ``repeat_from`` characters that
    comes whole for a second time is dropped.
    """

    def __init__(self, *, certain: Callable[[str], bool], repeat_from: int) -> None:
        self.settled = False
        """Every delta is new text, as it should be; ``new_text`` need not be asked any more."""
        self._certain = certain
        self._repeat_from = repeat_from
        self._so_far = ""
        self._held = ""
        self._cumulative = False

    def new_text(self, delta: str) -> str:
        """What this delta adds to the text."""
        if self.settled or not self._so_far:
            self._so_far = delta
            return delta
        if self._cumulative:
            return self._addition(delta)
        if self._held:
            return self._after_suspicion(delta)
        if delta == self._so_far and len(delta) >= self._repeat_from and self._certain(delta):
            return ""
        if not self._extends(delta):
            self.settled = True
            return delta
        if self._certain(self._so_far):
            self._cumulative = True
            return self._addition(delta)
        self._held = delta
        return ""

    def rest(self) -> str:
        """The text that was held back, when its item ends; without proof the host is believed."""
        held, self._held = self._held, ""
        self.settled = not self._cumulative
        return held

    def _extends(self, delta: str) -> bool:
        if not delta.startswith(self._so_far):
            return False
        # "=" "==" "====" and "ha" "haha" are as likely written so: the addition only repeats.
        addition = delta[len(self._so_far) :]
        return not (self._so_far.startswith(addition) or addition.startswith(self._so_far))

    def _after_suspicion(self, delta: str) -> str:
        held, self._held = self._held, ""
        if len(delta) > len(held) and delta.startswith(held):
            self._cumulative = True
            return self._addition(delta)
        self.settled = True
        return held + delta

    def _addition(self, delta: str) -> str:
        so_far, self._so_far = self._so_far, delta
        # A delta that does not extend the text starts another one, after a tool call for example.
        return delta.removeprefix(so_far)
