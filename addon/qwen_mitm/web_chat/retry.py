"""Trying again what is worth it, with growing pauses (web-chat.md §8)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .errors import WebChatError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """``longest_s`` bounds a pause; a site that wants a longer one is not asked again."""

    most: int = 3
    first_s: float = 1.0
    longest_s: float = 10.0
    factor: float = 2.0

    def pause(self, number: int, chance: float) -> float:
        """Seconds before retry ``number`` (0 is the first); ``chance`` is from 0 to 1."""
        whole = min(self.first_s * self.factor**number, self.longest_s)
        return whole * (0.5 + chance / 2)


NO_RETRY = RetryPolicy(most=0)


async def retried[T](
    act: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    sleep: Callable[[float], Awaitable[None]],
    random: Callable[[], float],
) -> T:
    """What ``act`` gives; it is called again after an error that passes, and after no other.

    Raises:
        WebChatError: the last one.
    """
    number = 0
    while True:
        try:
            return await act()
        except WebChatError as error:
            wanted = error.retry_after or 0.0
            if not error.is_passing or number >= policy.most or wanted > policy.longest_s:
                raise
            pause = max(wanted, policy.pause(number, random()))
            logger.info("qwen-mitm: %s Again in %.1f s.", error.message, pause)
        await sleep(pause)
        number += 1
