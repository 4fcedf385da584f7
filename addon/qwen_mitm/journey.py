"""Where a request went, what the client got of it, and when. Time is an argument."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from pydantic import JsonValue, SecretStr

from qwen_mitm.exchange import (
    Broken,
    Decision,
    FailedAnswer,
    HeaderFields,
    Outcome,
    Refused,
    Send,
)
from qwen_mitm.headers import header_value
from qwen_mitm.redaction import redacted_bytes, redacted_failure
from qwen_mitm.wire.chat import Failure
from qwen_mitm.wire.encoding import decoded

#: Bytes of what an upstream says instead of an answer that are kept.
ERROR_BODY_LIMIT = 4096


@dataclass(slots=True)
class AttemptRecord:
    """One attempt, for the log and for mitmweb. Times are seconds on the caller's clock."""

    account: str
    url: str
    at: float
    status: int | None = None
    head_at: float | None = None
    failure: str | None = None
    provider: str = ""
    ended_at: float | None = None
    error_body: str = ""
    """What the upstream said instead of an answer, without its key."""


class Recording:
    """What passes, kept for display up to a limit; pieces are kept, not copied."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._left = limit
        self._clock = clock
        self._pieces: list[bytes] = []
        self._times = array("d")
        self.cut = False

    def __len__(self) -> int:
        """How many pieces are kept."""
        return len(self._pieces)

    def add(self, piece: bytes) -> None:
        if self._left > 0:
            self._left -= len(piece)
            self._pieces.append(piece)
            self._times.append(self._clock())
        else:
            self.cut = True

    def body(self) -> bytes:
        return b"".join(self._pieces)

    def times(self) -> list[tuple[int, float]]:
        """For each piece where it ends in the body, and when it came."""
        ends = accumulate(map(len, self._pieces))
        return list(zip(ends, self._times, strict=True))


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
        self.recording = Recording(recording_limit, clock)
        self.upstream = self.recording
        """What the upstream said, where that is something else."""
        self.clock = clock
        self.began_at = clock()
        self.first_event_at: float | None = None
        self.upstream_fields: HeaderFields = ()
        self._secrets: tuple[SecretStr, ...] = ()
        """What the upstream must not be quoted with."""

    @property
    def failure(self) -> Failure | None:
        """What broke the answer off after it had begun."""
        return None

    @property
    def tokens(self) -> int:
        """Tokens used, as far as they are known."""
        return 0

    @property
    def provider(self) -> str:
        """The kind of host that the last request was made for."""
        return ""

    def sent(self, send: Send) -> None:
        """An attempt goes out."""
        url = f"{send.scheme}://{send.host}:{send.port}{send.target}"
        bearer = (header_value(send.headers, b"authorization") or "").removeprefix("Bearer ")
        self._secrets = (*send.secrets, SecretStr(bearer))
        attempt = AttemptRecord(send.account, url, self.clock(), provider=self.provider)
        self.attempts.append(attempt)

    def note_head(self, status: int, fields: HeaderFields) -> None:
        self.upstream_fields = fields
        self.attempts[-1].status = status
        self.attempts[-1].head_at = self.clock()

    def note_failure(self, why: str) -> None:
        if self.attempts:
            self.attempts[-1].failure = why

    def note_outcome(self) -> None:
        """The last attempt failed, and the next step is about to be chosen."""
        if self.outcome is None or not self.attempts:
            return
        attempt = self.attempts[-1]
        attempt.ended_at = self.clock()
        match self.outcome:
            case Refused(_, headers, body):
                said = decoded(body, headers.get("content-encoding", "identity"))
            case Broken(message):
                attempt.failure = message
                said = b""
            case FailedAnswer(failure):
                attempt.failure = redacted_failure(failure, self._secrets).message
                said = self.said_upstream()
        kept = redacted_bytes(said, self._secrets)[:ERROR_BODY_LIMIT]
        attempt.error_body = kept.decode("utf-8", "replace")

    def said_upstream(self) -> bytes:
        """The upstream's answer as far as it is kept, decoded and without the account's key."""
        coding = header_value(self.upstream_fields, b"content-encoding") or "identity"
        return redacted_bytes(decoded(self.upstream.body(), coding), self._secrets)

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
