"""Where conversations live: Qwen's prompt cache is per account. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from .resets import HOUR

#: Conversations that are remembered; a proxy for a large team has some hundreds at a time.
MOST_CONVERSATIONS: Final = 10_000
#: A prompt cache is cold long before.
IDLE_AFTER: Final = HOUR


class Homes:
    """The account of each conversation that was heard of lately."""

    def __init__(self) -> None:
        self._homes: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def of(self, conversation: str, now: int) -> str | None:
        """The account's name; asking keeps the conversation in mind."""
        self._drop_idle(now)
        home = self._homes.get(conversation)
        if home is None:
            return None
        self._homes[conversation] = (home[0], now)
        self._homes.move_to_end(conversation)
        return home[0]

    def settle(self, conversation: str, name: str, now: int) -> None:
        """It lives there from now on."""
        self._leave(conversation)
        self._homes[conversation] = (name, now)
        self._counts[name] += 1
        if len(self._homes) > MOST_CONVERSATIONS:
            self._leave(next(iter(self._homes)))

    def count(self, name: str) -> int:
        """How many conversations live there."""
        return self._counts[name]

    def _drop_idle(self, now: int) -> None:
        while self._homes:
            conversation, (_, seen) = next(iter(self._homes.items()))
            if now - seen < IDLE_AFTER:
                break
            self._leave(conversation)

    def _leave(self, conversation: str) -> None:
        home = self._homes.pop(conversation, None)
        if home is None:
            return
        self._counts[home[0]] -= 1
        if not self._counts[home[0]]:
            del self._counts[home[0]]
