"""The proxy's side of its connection to the program that started it (see reports.py)."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from mitmproxy import http
from pydantic import BaseModel

from qwen_mitm.inspection.prices import PriceTable
from qwen_mitm.journey import AttemptRecord
from qwen_mitm.reports import (
    VARIABLE,
    Fault,
    Remark,
    Report,
    RequestRefused,
    Tokens,
    Try,
    TurnEnded,
)
from qwen_mitm.turn import Turn

logger = logging.getLogger(__name__)

#: The starter reads all the time, so it is gone or stopped when this is not enough.
_SEND_TIMEOUT_S: Final = 2.0


class Reports(logging.Handler):
    """The proxy's end of the connection. Sending neither raises nor waits for long."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection
        self._open = True
        self._is_watched = False

    def send(self, report: Report) -> None:
        line = report.model_dump_json().encode() + b"\n"
        self.acquire()
        try:
            if self._open:
                self._connection.sendall(line)
        except OSError:
            # Half a line may be out.
            self._open = False
        finally:
            self.release()

    def close(self) -> None:
        super().close()
        self._connection.close()

    def emit(self, record: logging.LogRecord) -> None:
        self.send(Remark(text=record.getMessage()))

    def when_the_starter_ends(self, act: Callable[[], None]) -> None:
        """``act`` is called once, from a thread; a second call changes nothing."""
        if self._is_watched:
            return
        self._is_watched = True
        watch = functools.partial(_act_at_the_end, self._connection, act)
        threading.Thread(target=watch, name="qwen-starter", daemon=True).start()


def _act_at_the_end(connection: socket.socket, act: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        # The connection's own timeout is for sending.
        while select.select([connection], [], []) and connection.recv(64):
            pass
    act()


@functools.cache
def reports_to_starter() -> Reports | None:
    """The connection of this process, which outlives a reload of the addon; None: nobody asked.

    What the log has of warnings is sent from now on.
    """
    place = os.environ.pop(VARIABLE, "")
    port, _, word = place.partition("/")
    if not place:
        return None
    try:
        connection = socket.create_connection(("127.0.0.1", int(port)), _SEND_TIMEOUT_S)
        connection.sendall(word.encode() + b"\n")
    except (OSError, ValueError) as error:
        logger.error("qwen-mitm: whoever started this proxy cannot be reached: %s", error)
        return None
    reports = Reports(connection)
    logging.getLogger().addHandler(reports)
    return reports


def turn_ended(turn: Turn, flow: http.HTTPFlow, line: str, prices: PriceTable) -> TurnEnded:
    """The figures of a turn that is over."""
    response = turn.assembler.response()
    status = flow.response.status_code if flow.response else 0
    outcome = "refused" if status >= 400 else str(response["status"])
    if flow.error:
        outcome = "broken off"
    first = turn.first_event_at
    tokens = _tokens(turn)
    cost = prices.amount(
        turn.model, input_tokens=tokens.input, cached=tokens.cached, output_tokens=tokens.output
    )
    return TurnEnded(
        line=line,
        model=turn.model,
        outcome=outcome,
        tries=tuple(_try(attempt, turn.began_at) for attempt in turn.attempts),
        tokens=tokens,
        first_event_s=None if first is None else first - turn.began_at,
        response_id=str(response["id"]),
        streamed=turn.streams,
        ended_at=time.time(),
        duration_s=turn.clock() - turn.began_at,
        fault=_fault(turn, flow),
        cost=None if tokens.estimated else cost,
        currency=prices.currency,
    )


def request_refused(flow: http.HTTPFlow, failure: str) -> RequestRefused:
    """With the words that the client got."""
    fault = _refusal(flow)
    line = f"request {failure}" + (f": {fault.message}" if fault else "")
    return RequestRefused(line=line, ended_at=time.time(), fault=fault)


def _try(attempt: AttemptRecord, began_at: float) -> Try:
    parts = urlsplit(attempt.url)
    return Try(
        account=attempt.account,
        status=attempt.status,
        failure=attempt.failure,
        host=parts.hostname or "",
        port=parts.port or 0,
        began_s=attempt.at - began_at,
        head_s=None if attempt.head_at is None else attempt.head_at - began_at,
    )


def _fault(turn: Turn, flow: http.HTTPFlow) -> Fault | None:
    if flow.error:
        return Fault(message=flow.error.msg)
    if found := turn.failure:
        return Fault(message=found.message, status=found.status, type=found.type, code=found.code)
    return _refusal(flow)


def _refusal(flow: http.HTTPFlow) -> Fault | None:
    if flow.response is None or flow.response.status_code < 400:
        return None
    try:
        said = _Refusal.model_validate_json(flow.response.content or b"").error
    except ValueError:
        return None
    return Fault(
        message=said.message, status=flow.response.status_code, type=said.type, code=said.code
    )


class _Error(BaseModel):
    message: str
    type: str | None = None
    code: str | None = None


class _Refusal(BaseModel):
    error: _Error


class _InputDetails(BaseModel):
    cached_tokens: int = 0


class _OutputDetails(BaseModel):
    reasoning_tokens: int = 0


class _Usage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _InputDetails = _InputDetails()
    output_tokens_details: _OutputDetails = _OutputDetails()


def _tokens(turn: Turn) -> Tokens:
    usage = turn.assembler.response()["usage"]
    if usage is None:
        return Tokens()
    counted = _Usage.model_validate(usage)
    return Tokens(
        input=counted.input_tokens,
        cached=counted.input_tokens_details.cached_tokens,
        output=counted.output_tokens,
        reasoning=counted.output_tokens_details.reasoning_tokens,
        estimated=turn.summary()["usage_is_estimated"] is True,
    )
