"""Exchanges for a LayerDriver: they mark what passes, and write down how attempts ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal

from qwen_mitm.errors import BridgeError, UpstreamUnreachable
from qwen_mitm.exchange import (
    Answer,
    Broken,
    Decision,
    FailedAnswer,
    GiveUp,
    HeaderFields,
    Outcome,
    Send,
)
from qwen_mitm.wire.chat import Failure
from tests.layer_driver import FakeGateway, LayerDriver, Version

SSE = ((b"content-type", b"text/event-stream"),)


def send(account: str = "a", host: str = "upstream.test", body: bytes = b"rewritten") -> Send:
    headers = ((b"authorization", f"Bearer fake-{account}".encode()),)
    return Send(account, "http", host, 80, "/v1/chat/completions", headers, body)


GIVE_UP = GiveUp(UpstreamUnreachable("nobody answers"))


class FakeExchange:
    """Marks what passes: ``<…>`` for data, ``end``, ``broken``, ``failed`` and ``beat``.

    Upstream data that begins with ``error`` is a failed answer, with ``:`` no event; ``DONE`` ends
    the answer.
    """

    def __init__(
        self,
        decisions: Iterable[Decision] = (send(),),
        *,
        streams: bool = True,
        beats: bool = True,
        heartbeat_s: int = 15,
        timeout_s: int = 300,
    ) -> None:
        self.decisions = deque(decisions)
        self.decision: Decision | None = None
        self.outcome: Outcome | None = None
        self.outcomes: list[Outcome | None] = []
        self.streams = streams
        self.beats = beats
        self.heartbeat_s = heartbeat_s
        self.timeout_s = timeout_s
        self.finished = False
        self.ending = False
        self.status = 200
        self.fields: HeaderFields = SSE
        self.body = b""
        self.offered = b""

    def decide(self) -> None:
        self.outcomes.append(self.outcome)
        self.decision = self.decisions.popleft() if self.decisions else GIVE_UP

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        self.offered = b""
        return "offer" if 200 <= status < 300 else "refuse"

    def offer(self, data: bytes) -> bool | FailedAnswer:
        self.offered += data
        if data.startswith(b"error"):
            return FailedAnswer(Failure("an error"))
        return self.streams and not data.startswith(b":")

    def offer_end(self) -> bool | FailedAnswer:
        return bool(self.offered)

    def open(self) -> Answer:
        if self.streams:
            return Answer(self.status, self.fields, self.body)
        return Answer(self.status, self.fields, b"[" + self.offered + b"]")

    def accepted(self) -> bytes:
        return self.feed(self.offered)

    def feed(self, data: bytes) -> bytes:
        before, done, _ = data.partition(b"DONE")
        self.finished = self.finished or bool(done)
        data = before + done
        return b"" if data.startswith(b":") else b"<" + data + b">"

    def end(self) -> bytes:
        return b"end"

    def broken(self, outcome: Broken) -> bytes | None:
        return b"broken"

    def fail(self, error: BridgeError) -> bytes:
        return b"failed"

    def heartbeat(self) -> bytes:
        return b"beat"


def without_marks(body: bytes) -> bytes:
    """What passed, however the layer joined it."""
    return body.replace(b"<", b"").replace(b">", b"")


class FakeRelay(FakeExchange):
    """Passes everything on as it is."""

    def __init__(self, decisions: Iterable[Decision] = (send(),)) -> None:
        super().__init__(decisions, beats=False)

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        self.status = status
        self.fields = tuple(f for f in fields if f[0].lower() != b"transfer-encoding")
        return "accept"

    def accepted(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""

    def broken(self, outcome: Broken) -> None:
        return None


def drive(
    *exchanges: FakeExchange, client: Version = "h1", upstream: Version = "h1"
) -> LayerDriver:
    return LayerDriver(FakeGateway(*exchanges), client, upstream)
