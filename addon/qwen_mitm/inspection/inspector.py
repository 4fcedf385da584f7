"""What the hooks tell of a turn, written into its flow: the line, the mark, and what views need.

Nothing here runs per chunk. While turns run, their flows are brought up to date once a second, and
only where somebody can look at them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mitmproxy import contentviews, ctx, http
from mitmproxy.connection import Server
from mitmproxy.exceptions import CommandError
from mitmproxy.flow import Flow
from mitmproxy.hooks import UpdateHook
from pydantic import JsonValue

from qwen_mitm.errors import BridgeError
from qwen_mitm.exchange import Broken, Send
from qwen_mitm.headers import ON_THE_WIRE_ALONE
from qwen_mitm.inspection.case import NoCase
from qwen_mitm.inspection.dashboard import MARKS, line_of, line_so_far, mark_of
from qwen_mitm.inspection.exporting import export, retranslate
from qwen_mitm.inspection.pages import Turn as Page
from qwen_mitm.inspection.prices import PriceTable, read_prices
from qwen_mitm.inspection.record import (
    REQUEST_LIMIT,
    Link,
    Record,
    pack,
    read_record,
    record_of,
    refused,
    unpack,
)
from qwen_mitm.inspection.views import VIEWS
from qwen_mitm.inspection.wording import read_json
from qwen_mitm.relay import Relay
from qwen_mitm.seal import Seal
from qwen_mitm.settings import SettingsError
from qwen_mitm.stored_response import ResponseStore
from qwen_mitm.turn import Turn
from qwen_mitm.wire.encoding import decoded

logger = logging.getLogger(__name__)

#: Marks a flow of ours in saved files, with what is worth keeping of it.
METADATA_KEY: Final = "qwen"
#: The bodies that are in no message of the flow: packed, so that nobody reads them by chance.
BODIES_KEY: Final = "qwen_bodies"
UPDATE_S: Final = 1.0
#: mitmweb gives a comment 150 pixels beside a path, and most of the width without one; the path of
#: a turn is always the same.
COLUMNS: Final = ("comment", "status", "time")
#: An answer that runs is shown again when it has grown by this share.
_GROWTH: Final = 1 / 4


@dataclass(slots=True)
class _Live:
    """A turn that runs."""

    flow: http.HTTPFlow
    turn: Turn
    content: bytes
    coding: str
    sent_at: list[float] = field(default_factory=list)
    """When each attempt was sent, on the clock that mitmproxy's times are of."""
    links: list[Link | None] = field(default_factory=list)
    offered: bytes | None = None
    """The request as a person can edit it before it is sent."""
    shown: int = 0
    """Pieces of the answer that the flow shows."""

    @property
    def client(self) -> bytes:
        """The client's request as JSON, up to the limit."""
        return decoded(self.content, self.coding)[:REQUEST_LIMIT]

    def note_link(self) -> None:
        """The last attempt is over: which connection it had."""
        if len(self.links) < len(self.sent_at):
            outcome = self.turn.outcome
            lost = isinstance(outcome, Broken) and outcome.stage == "connect"
            link = None if lost else _link(self.flow.server_conn, self.sent_at[-1])
            self.links.append(link)

    def record(self, failure: str | None = None) -> Record:
        record = record_of(self.turn, failure)
        for attempt, link in zip(record.attempts, self.links, strict=False):
            attempt.link = link
        return record


class Inspector:
    """Keeps what is known of turns where mitmproxy's front ends show it."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._live: dict[str, _Live] = {}
        self.prices = PriceTable()
        self._lines_alone = False
        self._timer: asyncio.TimerHandle | None = None

    # Lifecycle ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Add the views. mitmproxy cannot take them back; a reload replaces them."""
        for view in VIEWS:
            contentviews.add(view(self.page))

    def running(self) -> None:
        """Show the line in mitmweb's list, unless the user has chosen the columns."""
        options = ctx.options
        if "web_columns" in options.keys() and not options.has_changed("web_columns"):  # noqa: SIM118
            options.update(web_columns=COLUMNS)
            self._lines_alone = True

    def other(self, flow: http.HTTPFlow) -> None:
        """A request that is none of ours, in a list that may have nothing but the lines."""
        if self._lines_alone and not flow.comment:
            flow.comment = f"{flow.request.method} {flow.request.pretty_url}"

    def price(self, path: str) -> None:
        """Read the prices of this file; without one there are none.

        Raises:
            SettingsError: it cannot be used.
        """
        if not path:
            self.prices = PriceTable()
            return
        try:
            self.prices = read_prices(Path(path).expanduser().read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"qwen_prices: {path} cannot be used: {error}") from None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._live.clear()

    # What the hooks tell -----------------------------------------------------------------------

    def began(
        self, flow: http.HTTPFlow, exchange: Turn | Relay, content: bytes, coding: str
    ) -> None:
        if not isinstance(exchange, Turn):
            return
        live = self._live[flow.id] = _Live(flow, exchange, content, coding or "identity")
        if getattr(ctx.options, "intercept_active", False):
            # It may be held back now: what can be edited then is what will be sent.
            live.offered = flow.request.raw_content = exchange.preview()
            flow.request.headers.pop("content-encoding", None)
        flow.comment = line_so_far(exchange)
        if self._timer is None and self._is_watched():
            self._timer = asyncio.get_running_loop().call_later(UPDATE_S, self._update)

    def refused(self, flow: http.HTTPFlow, error: BridgeError) -> None:
        """Answered here, with an error."""
        self._finish(flow, refused(error))

    def asking(self, flow: http.HTTPFlow, exchange: Turn | Relay) -> None:
        """The next attempt is about to be chosen."""
        exchange.note_outcome()
        if live := self._live.get(flow.id):
            live.note_link()
            offered, live.offered = live.offered, None
            found = flow.request.raw_content
            if offered is not None and found and found != offered:
                live.turn.edit(found)

    def sent(self, flow: http.HTTPFlow, send: Send) -> None:
        """Let the flow say what was sent, but for the credential: that is on the wire only."""
        if live := self._live.get(flow.id):
            live.sent_at.append(self._wall_clock())
        fields = [field for field in send.headers if field[0].lower() not in ON_THE_WIRE_ALONE]
        fields.append((b"authorization", f"Bearer account:{send.account}".encode()))
        request = flow.request
        request.headers = http.Headers(fields)
        request.scheme, request.host, request.port = send.scheme, send.host, send.port
        request.path = send.target
        if send.body is not request.raw_content:
            request.raw_content = send.body

    def ended(self, flow: http.HTTPFlow, exchange: Turn | Relay, failure: str | None) -> None:
        """The client has its answer, or is gone."""
        live = self._live.pop(flow.id, None)
        response = flow.response
        if response and (live is not None or not response.raw_content):
            _show_answer(response, exchange)
        if live is None:
            flow.metadata[METADATA_KEY] = exchange.summary()
            who = f" · account {exchange.attempts[-1].account}" if exchange.attempts else ""
            flow.comment = f"{flow.request.method} {flow.request.path}{who}"
            return
        live.note_link()
        record = live.record(failure)
        if record.status == "in_progress":
            record.status = "broken off" if flow.error else "failed"
            record.error = _error_in(response)
        if record.tokens is not None and not record.tokens.estimated:
            record.cost = self.prices.cost(
                record.model,
                input_tokens=record.tokens.input,
                cached=record.tokens.cached,
                output_tokens=record.tokens.output,
            )
            record.priced = self.prices.date
        flow.metadata[BODIES_KEY] = {
            "request": pack(live.client),
            "upstream": pack(exchange.said_upstream()),
        }
        self._finish(flow, record)

    def _finish(self, flow: http.HTTPFlow, record: Record) -> None:
        flow.metadata[METADATA_KEY] = record.as_metadata()
        flow.comment = line_of(record)
        # What a person put there stays.
        if not flow.marked or flow.marked in MARKS:
            flow.marked = mark_of(record)

    # What is shown -----------------------------------------------------------------------------

    def page(self, flow: http.HTTPFlow) -> Page | None:
        """What a view of a flow is made of; None for a flow of others."""
        live = self._live.get(flow.id)
        if live is not None:
            upstream = live.turn.said_upstream()
            return Page(live.record(), line_so_far(live.turn), live.client, upstream)
        if METADATA_KEY not in flow.metadata:
            return None
        record = read_record(flow.metadata[METADATA_KEY])
        if record is None:
            return None
        bodies = flow.metadata.get(BODIES_KEY)
        kept = bodies if isinstance(bodies, dict) else {}
        client, upstream = (unpack(kept.get(name)) for name in ("request", "upstream"))
        return Page(record, flow.comment or line_of(record), client, upstream)

    def export(
        self, flow: Flow, folder: str, store: ResponseStore, seal: Seal, *, blank: bool
    ) -> None:
        """Raises CommandError."""
        turn, page = self._ended(flow)
        body = turn.request.raw_content or b""
        try:
            export(page, body, Path(folder), store=store, seal=seal, blank=blank)
        except NoCase as error:
            raise CommandError(str(error)) from None

    def retranslate(self, flow: Flow, store: ResponseStore, seal: Seal) -> list[str]:
        """Raises CommandError."""
        turn, page = self._ended(flow)
        body, answer = ((m and m.raw_content) or b"" for m in (turn.request, turn.response))
        try:
            return retranslate(page, body, answer, store=store, seal=seal)
        except NoCase as error:
            raise CommandError(str(error)) from None

    def _ended(self, flow: Flow) -> tuple[http.HTTPFlow, Page]:
        if isinstance(flow, http.HTTPFlow) and flow.id not in self._live:
            page = self.page(flow)
            if page is not None:
                return flow, page
        raise CommandError("This is no turn that is over.")

    def _is_watched(self) -> bool:
        return ctx.master.addons.get("view") is not None

    def _update(self) -> None:
        """Once a second while turns run."""
        self._timer = None
        if not self._live:
            return
        for live in self._live.values():
            live.flow.comment = line_so_far(live.turn)
            pieces = len(live.turn.recording)
            response = live.flow.response
            # Bodies are joined and hashed for this, so it is done less often as they grow.
            if response is not None and pieces > live.shown * (1 + _GROWTH):
                live.shown = pieces
                response.raw_content = live.turn.recording.body()
        ctx.master.addons.trigger(UpdateHook([live.flow for live in self._live.values()]))
        self._timer = asyncio.get_running_loop().call_later(UPDATE_S, self._update)


def _show_answer(response: http.Response, exchange: Turn | Relay) -> None:
    body = exchange.recording.body()
    if body or response.raw_content is None:
        response.raw_content = body


def _error_in(response: http.Response | None) -> JsonValue:
    """What the client was told by an answer that is an error."""
    match read_json((response and response.raw_content) or b""):
        case {"error": dict(error)}:
            return error
    return None


def _link(connection: Server, sent_at: float) -> Link | None:
    started, tcp = connection.timestamp_start, connection.timestamp_tcp_setup
    if started is None or tcp is None:
        return None
    tls = connection.timestamp_tls_setup
    host, port, *_ = connection.peername or connection.address or ("", 0)
    return Link(
        peer=f"{host}:{port}",
        reused=started < sent_at,
        tcp_s=round(tcp - started, 4),
        tls_s=None if tls is None else round(tls - tcp, 4),
        tls=connection.tls_version or "",
        alpn=(connection.alpn or b"").decode("ascii", "replace"),
    )
