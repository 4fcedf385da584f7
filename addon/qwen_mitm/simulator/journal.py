"""What the simulator received, and what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

type Outcome = Literal["open", "answered", "cancelled", "broken"]


@dataclass(slots=True)
class ReceivedRequest:
    """One request as it arrived, and how its answer went.

    ``outcome`` is ``open`` while the answer is being sent, ``answered`` when all of it left,
    ``cancelled`` when the client went away first, ``broken`` when the simulator broke off on
    purpose. Times are seconds since the epoch.
    """

    number: int
    connection: int
    http_version: Literal["1.1", "2"]
    method: str
    path: str
    authority: str
    headers: list[tuple[str, str]]
    body: bytes
    received_at: float
    account: str | None = None
    status: int | None = None
    chunks_sent: int = 0
    waits_at: str | None = None
    outcome: Outcome = "open"
    closed_at: float | None = None
    cancelled_after_chunks: int | None = None

    @property
    def json(self) -> Any:
        """The body as JSON; raises ValueError when it is not."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of that name (any case), or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def as_json(self) -> dict[str, Any]:
        """For the control endpoint; ``json`` is null when the body is not JSON."""
        try:
            document = self.json
        except ValueError:
            document = None
        return {
            "number": self.number,
            "connection": self.connection,
            "http_version": self.http_version,
            "method": self.method,
            "path": self.path,
            "authority": self.authority,
            "headers": [list(pair) for pair in self.headers],
            "body": self.body.decode("utf-8", "replace"),
            "json": document,
            "received_at": self.received_at,
            "account": self.account,
            "status": self.status,
            "chunks_sent": self.chunks_sent,
            "waits_at": self.waits_at,
            "outcome": self.outcome,
            "closed_at": self.closed_at,
            "cancelled_after_chunks": self.cancelled_after_chunks,
        }


class Journal:
    """All requests so far, and the gates that answers wait at. Lives in one event loop."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        self._gates: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()

    def add(
        self,
        *,
        connection: int,
        http_version: Literal["1.1", "2"],
        method: str,
        path: str,
        authority: str,
        headers: list[tuple[str, str]],
        body: bytes,
        recorded: bool,
    ) -> ReceivedRequest:
        """A control request is made but not ``recorded``."""
        request = ReceivedRequest(
            number=len(self.requests),
            connection=connection,
            http_version=http_version,
            method=method,
            path=path,
            authority=authority,
            headers=headers,
            body=body,
            received_at=time.time(),
        )
        if recorded:
            self.requests.append(request)
            self.notify()
        return request

    def close(self, request: ReceivedRequest, outcome: Outcome) -> None:
        """The first outcome counts."""
        if request.outcome != "open":
            return
        request.outcome = outcome
        request.closed_at = time.time()
        if outcome == "cancelled":
            request.cancelled_after_chunks = request.chunks_sent
        self.notify()

    def notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_for(self, predicate: Callable[[], bool], patience: float) -> bool:
        """Wait until the predicate holds; False when it does not after so many seconds."""
        try:
            async with asyncio.timeout(patience):
                while not predicate():
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def has(self, *, received: int = 0, closed: int = 0) -> bool:
        """Whether that many requests have arrived, and that many answers are over."""
        over = sum(request.outcome != "open" for request in self.requests)
        return len(self.requests) >= received and over >= closed

    def stands_at(self, gate: str) -> bool:
        """Whether an answer waits at the gate."""
        return any(r.waits_at == gate and r.outcome == "open" for r in self.requests)

    def gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def release(self, name: str) -> None:
        """Open a gate, now and for every later request."""
        self.gate(name).set()

    def reset(self) -> None:
        """Forget requests and open gates. Answers under way go on and are no longer listed."""
        self.requests.clear()
        self._gates = {name: gate for name, gate in self._gates.items() if not gate.is_set()}
        self.notify()
