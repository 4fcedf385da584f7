"""One claimed request on its way, in the words that the transport and the addon share.

The failover layer asks *what next*; the answer is a :data:`Decision`. It reports how an attempt
ended as an :data:`Outcome`, and hands the upstream's bytes to the :class:`Exchange`. Neither side
knows more of the other than this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import SecretStr

from qwen_mitm.errors import BridgeError
from qwen_mitm.wire.chat import Failure


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request there, this way.

    ``target`` is the origin-form target (path and query). ``headers`` are complete but for
    ``host`` and ``content-length``; they carry the bearer, hence no ``repr``.
    """

    account: str
    scheme: str
    host: str
    port: int
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(repr=False)
    secrets: tuple[SecretStr, ...] = ()
    """What else than the bearer may not be quoted by anybody who is answered."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as one host wants it, but for the credential; ``target`` as in :class:`Send`."""

    target: str
    headers: HeaderFields = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No more attempts: the client gets this."""

    error: BridgeError


type Decision = Send | Wait | GiveUp


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream answered with another status than 2xx.

    ``body`` is as it came (``content-encoding`` may apply) and may be cut: a failed answer is read
    for a bounded time and size.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection failed before a byte of an answer was worth keeping.

    ``reused``: the connection had served another request before, so that the peer may have closed
    it while it was idle; the request is then safe to repeat at once.
    """

    message: str
    stage: Literal["connect", "head", "answer"]
    timed_out: bool = False
    reused: bool = False


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """A 2xx answer whose first event (or whole body) is an error."""

    failure: Failure


type Outcome = Refused | Broken | FailedAnswer

type HeaderFields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The client's answer: its head, and its body unless that is streamed."""

    status: int
    fields: HeaderFields
    body: bytes = b""


class Exchange(Protocol):
    """One claimed request, as the addon carries it. No method may raise."""

    decision: Decision | None
    """Set by the addon when it is asked."""
    outcome: Outcome | None
    """How the last attempt ended; ``None`` before the first."""
    streams: bool
    """The client's answer is passed on as it arrives."""
    beats: bool
    """The client's answer may begin early and be kept alive by heartbeats."""
    heartbeat_s: int
    timeout_s: int

    @property
    def finished(self) -> bool:
        """The client's answer is complete, whatever else the upstream sends."""

    @property
    def ending(self) -> bool:
        """The upstream has said all but perhaps a word at the end, such as usage."""

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        """An upstream head arrived: a failure, to be looked into, or good as it is."""

    def offer(self, data: bytes) -> bool | FailedAnswer:
        """Upstream bytes while nothing is settled: True accepts, False wants more."""

    def offer_end(self) -> bool | FailedAnswer:
        """The answer ended while nothing was settled. False: it was empty."""

    def open(self) -> Answer:
        """The client's answer: the head of a streamed one, or all of it."""

    def accepted(self) -> bytes:
        """What the client gets for all that was offered."""

    def feed(self, data: bytes) -> bytes:
        """What the client gets for these upstream bytes; empty for nothing."""

    def end(self) -> bytes:
        """The client's last bytes after a regular end."""

    def broken(self, outcome: Broken) -> bytes | None:
        """The client's last bytes after the upstream was lost; None: break off as well."""

    def fail(self, error: BridgeError) -> bytes:
        """The client's last bytes when the attempts ended in an error after the head left."""

    def heartbeat(self) -> bytes:
        """Bytes that mean nothing and keep the connection alive."""
