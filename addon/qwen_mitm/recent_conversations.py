"""What was made of the last conversations' requests, to be used again by their next turns.

Nothing is looked up by a name that a client chooses. The bytes of a new request are compared with
those of the earlier ones (wire/resent.py), and what was made of them is compared before it is used
(translate/past.py, translate/chat_messages.py): so an answer may come sooner, and never another
one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from qwen_mitm.providers import Dialect
from qwen_mitm.translate.chat_messages import MessageTexts
from qwen_mitm.translate.past import Past
from qwen_mitm.wire.resent import Reading, read
from qwen_mitm.wire.responses import ResponsesRequest, parse_request

MOST: Final = 32
MOST_BYTES: Final = 64 * 2**20
#: Smaller requests take no time worth saving.
LEAST_BYTES: Final = 8 * 2**10


@dataclass(slots=True)
class ForHost:
    """What was made of a conversation for one host."""

    past: Past | None = None
    texts: MessageTexts = field(default_factory=MessageTexts)


@dataclass(slots=True, eq=False)
class Recollection:
    """What is known of one conversation."""

    reading: Reading | None = None
    """None: it is not kept."""
    hosts: dict[Dialect, ForHost] = field(default_factory=dict)

    def for_host(self, dialect: Dialect) -> ForHost:
        return self.hosts.setdefault(dialect, ForHost())

    @property
    def size(self) -> int:
        """Bytes, about: the texts of the items are there as they came and as they were parsed."""
        own = 2 * self.reading.size if self.reading else 0
        return own + sum(host.texts.size for host in self.hosts.values())


class RecentConversations:
    """The newest conversations, and no more than so many bytes."""

    def __init__(
        self, *, most: int = MOST, most_bytes: int = MOST_BYTES, least_bytes: int = LEAST_BYTES
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._least_bytes = least_bytes
        self._newest_first: list[Recollection] = []

    def read(self, body: bytes) -> tuple[ResponsesRequest, Recollection]:
        """The request in a decoded body, as ``parse_request`` gives it.

        Raises:
            InvalidRequest: as ``parse_request`` does.
        """
        known = [one.reading for one in self._newest_first if one.reading is not None]
        found = read(body, known) if len(body) >= self._least_bytes else None
        if found is None:
            return parse_request(body), Recollection()
        reading, base = found
        recollection = Recollection(reading)
        if base is not None:
            continued = next(one for one in self._newest_first if one.reading is base)
            recollection.hosts = continued.hosts
            self._newest_first.remove(continued)
        self._newest_first.insert(0, recollection)
        self._forget()
        return reading.request, recollection

    @property
    def size(self) -> int:
        return sum(one.size for one in self._newest_first)

    def _forget(self) -> None:
        del self._newest_first[self._most :]
        while self._newest_first and self.size > self._most_bytes:
            self._newest_first.pop()
