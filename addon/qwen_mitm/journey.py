"""Where a request went, what the client got of it, and when. Time is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import JsonValue, SecretStr

from qwen_mitm.exchange import (
    Decision,
    HeaderFields,
    Outcome,
    Send,
)
from qwen_mitm.headers import header_value
from qwen_mitm.wire.chat import Failure


@dataclass(slots=True)
class AttemptRecord:
    """One attempt, for the log and for mitmweb. Times are seconds on the caller's clock."""

    account: str
    url: str
    at: float
    status: int | None = None
    head_at: float | None = None
    failure: str | None = None


class Recording:
    """The client's answer, kept for display up to a limit; pieces are kept, not copied."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._pieces: list[bytes] = []
        self.cut = False

    def add(self, piece: bytes) -> None:
        if self._left > 0:
            self._left -= len(piece)
            self._pieces.append(piece)
        else:
            self.cut = True

    def body(self) -> bytes:
        return b"".join(self._pieces)


class Journey:
    """What a turn and a relay have in common: where the request went and how that ended."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        heartbeat_s: int,
        timeout_s: int,
        recording_limit: int,
    ) -> None:
        self.decision: Decision | None = None
        self.outcome: Outcome | None = None
        self.attempts: list[AttemptRecord] = []
        self.heartbeat_s = heartbeat_s
        self.timeout_s = timeout_s
        self.recording = Recording(recording_limit)
        self.clock = clock
        self.began_at = clock()
        self.first_event_at: float | None = None
        self.upstream_fields: HeaderFields = ()
        self._credential = SecretStr("")
        """What the upstream must not be quoted with."""

    @property
    def failure(self) -> Failure | None:
        """What broke the answer off after it had begun."""
        return None

    @property
    def tokens(self) -> int:
        """Tokens used, as far as they are known."""
        return 0

    def sent(self, send: Send) -> None:
        """An attempt goes out."""
        url = f"{send.scheme}://{send.host}:{send.port}{send.target}"
        self._credential = SecretStr(
            (header_value(send.headers, b"authorization") or "").removeprefix("Bearer ")
        )
        self.attempts.append(AttemptRecord(send.account, url, self.clock()))

    def note_head(self, status: int, fields: HeaderFields) -> None:
        self.upstream_fields = fields
        self.attempts[-1].status = status
        self.attempts[-1].head_at = self.clock()

    def note_failure(self, why: str) -> None:
        if self.attempts:
            self.attempts[-1].failure = why

    def summary(self) -> dict[str, JsonValue]:
        """What is kept in saved flows: JSON-like values, nothing secret."""
        return {
            "attempts": [
                {"account": a.account, "url": a.url, "status": a.status, "failure": a.failure}
                for a in self.attempts
            ]
        }

    def _first_event(self) -> None:
        if self.first_event_at is None:
            self.first_event_at = self.clock()
