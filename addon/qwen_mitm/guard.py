"""The boundary of the stream: an exchange that never raises.

mitmproxy would log an exception and drop that piece, or hang the client (mitmproxy.md §1). Here it
ends the client's answer with ``response.failed``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from mitmproxy import http

from qwen_mitm.errors import BridgeError
from qwen_mitm.exchange import (
    Answer,
    Broken,
    Decision,
    FailedAnswer,
    HeaderFields,
    Outcome,
)
from qwen_mitm.relay import Relay
from qwen_mitm.translate.failure import failure_error
from qwen_mitm.turn import Turn
from qwen_mitm.wire.chat import Failure

logger = logging.getLogger(__name__)

#: When even the assembler cannot say so. Without a terminal event OpenCode asks for ever.
LAST_RESORT = (
    b'event: response.failed\ndata: {"type":"response.failed","sequence_number":0,"response":'
    b'{"id":"resp_0","object":"response","created_at":0,"model":"","status":"failed","output":[],'
    b'"error":{"code":"invalid_prompt","message":"qwen-mitm could not translate the answer because '
    b'of a bug of its own. The log of mitmproxy has the details."},"usage":{"input_tokens":0,'
    b'"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":0,'
    b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":0}}}\n\ndata: [DONE]\n\n'
)

_BUG = "qwen-mitm: a bug in the answer of flow %s"
_FAULT = Failure(
    "qwen-mitm could not translate the upstream's answer because of a bug of its own. The log of "
    "mitmproxy has the details; please report it.",
    type="server_error",
    code="invalid_prompt",
    status=500,
)


class Guarded:
    """An :class:`~qwen_mitm.exchange.Exchange` made of a turn or a relay."""

    def __init__(
        self,
        inner: Turn | Relay,
        flow: http.HTTPFlow,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self.inner = inner
        self.flow = flow
        self._accepted = accepted
        """Called when an answer of the upstream is good so far."""
        self.streams = inner.streams
        self.beats = inner.beats
        self.heartbeat_s = inner.heartbeat_s
        self.timeout_s = inner.timeout_s
        self._ended = False

    @property
    def decision(self) -> Decision | None:
        return self.inner.decision

    @decision.setter
    def decision(self, decision: Decision | None) -> None:
        self.inner.decision = decision

    @property
    def outcome(self) -> Outcome | None:
        return self.inner.outcome

    @outcome.setter
    def outcome(self, outcome: Outcome | None) -> None:
        self.inner.outcome = outcome

    @property
    def finished(self) -> bool:
        return self._ended or self.inner.finished

    @property
    def ending(self) -> bool:
        return self.inner.ending

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        return self._safely(_refuse, self.inner.head, status, fields)

    def offer(self, data: bytes) -> bool | FailedAnswer:
        return self._safely(_failed_answer, self.inner.offer, data)

    def offer_end(self) -> bool | FailedAnswer:
        return self._safely(_failed_answer, self.inner.offer_end)

    def open(self) -> Answer:
        if not self.streams:
            self._safely(_nothing, self._accepted)
        return self._safely(self._failed_head, self.inner.open)

    def accepted(self) -> bytes:
        self._safely(_nothing, self._accepted)
        return self._safely(self._last_events, self.inner.accepted)

    def feed(self, data: bytes) -> bytes:
        # Once per chunk, so without a call more than it needs.
        if self._ended:
            return b""
        try:
            return self.inner.feed(data)
        except Exception:
            logger.exception(_BUG, self.flow.id)
            return self._last_events()

    def end(self) -> bytes:
        return b"" if self._ended else self._safely(self._last_events, self.inner.end)

    def broken(self, outcome: Broken) -> bytes | None:
        return self._safely(self._last_events, self.inner.broken, outcome)

    def fail(self, error: BridgeError) -> bytes:
        return self._safely(self._last_events, self.inner.fail, error)

    def heartbeat(self) -> bytes:
        return self._safely(self._last_events, self.inner.heartbeat)

    def _safely[T, *Ts](
        self, otherwise: Callable[[], T], act: Callable[[*Ts], T], *arguments: *Ts
    ) -> T:
        try:
            return act(*arguments)
        except Exception:
            logger.exception(_BUG, self.flow.id)
            return otherwise()

    def _last_events(self) -> bytes:
        self._ended = True
        if isinstance(self.inner, Relay):
            return b""
        return self._safely(_last_resort, self.inner.stop, _FAULT) or LAST_RESORT

    def _failed_head(self) -> Answer:
        self._ended = True
        return Answer(500, ((b"content-type", b"application/json"),), failure_error(_FAULT).body())


def _nothing() -> None:
    pass


def _refuse() -> Literal["refuse", "offer", "accept"]:
    return "refuse"


def _failed_answer() -> bool | FailedAnswer:
    return FailedAnswer(_FAULT)


def _last_resort() -> bytes:
    return LAST_RESORT
