"""The hooks, each with its boundary; guard.py is the boundary of the stream.

mitmproxy logs an exception of a hook and forwards the client's own request, with its key. Here a
claimed request for which no exchange was made is answered by the failover layer instead.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import time
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from mitmproxy import command, connection, ctx, exceptions, flow, http, types
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import layer, server_hooks

from qwen_mitm import failover_layer, hosting, stopping
from qwen_mitm.accounts.ledger import Ledger
from qwen_mitm.accounts.store import AccountStore, accounts_path
from qwen_mitm.admission import admit, is_loopback, peers_may_be_remote
from qwen_mitm.attempts import Attempts
from qwen_mitm.errors import (
    BridgeError,
    InvalidRequest,
    NoUsableAccount,
    ProxyStopped,
    TranslationFault,
    Unauthorized,
    UpgradeRefused,
)
from qwen_mitm.exchange import Answer, Exchange, GiveUp, Send
from qwen_mitm.guard import Guarded
from qwen_mitm.headers import CREDENTIALS
from qwen_mitm.inspection.inspector import METADATA_KEY, Inspector
from qwen_mitm.intake import Arrival, Surroundings, begin, stored_answer
from qwen_mitm.kept_flows import KeptFlows
from qwen_mitm.oauth.refresh import Refresher
from qwen_mitm.oauth.transport import open_client
from qwen_mitm.observing.observer import Observer
from qwen_mitm.observing.present import Present
from qwen_mitm.outward import Outward, Via
from qwen_mitm.recent_conversations import RecentConversations
from qwen_mitm.reporting import Reports, reports_to_starter, request_refused, turn_ended
from qwen_mitm.reports import WORKER_VARIABLE, RequestRefused, TurnEnded
from qwen_mitm.responses_file import responses_path, state_home
from qwen_mitm.responses_store import ResponsesStore
from qwen_mitm.seal import Seal, installed_seal, key_path
from qwen_mitm.settings import (
    Origin,
    Settings,
    SettingsError,
    Source,
    ambient_sources,
    declare_options,
    merge,
    unknown_keys,
)
from qwen_mitm.skew import skew_of
from qwen_mitm.sockets import Sockets
from qwen_mitm.status import STATUS_HOST, Skew
from qwen_mitm.status import answer as status_answer
from qwen_mitm.turn import Turn
from qwen_mitm.web_chat.on_demand import WebChatOnDemand

logger = logging.getLogger(__name__)

SWITCHING_PROTOCOLS = 101
#: So many requests for the proxy itself stay in mitmweb.
ASKED_FLOWS = 5
FOR_GUESTS = (
    "Programs on other machines may use the hosts of qwen_hosts through this proxy, no others."
)


class QwenBridge:
    """The addon that ``addon/main.py`` hands to mitmproxy."""

    name = "qwen"
    _latest: ClassVar[QwenBridge | None] = None

    def __init__(self) -> None:
        self.settings = Settings()
        self._ambient: list[Source] = []
        self._running = self._stopping = False
        self._arrivals: dict[str, Arrival] = {}
        self._exchanges: dict[str, Guarded] = {}
        self._skew: Skew | None = None
        self._kept, self._asked = KeptFlows(), KeptFlows()
        self._inspector = Inspector()
        self._recent = RecentConversations()
        self._outward = Outward({})
        self._sockets = Sockets()
        self._web_chat = WebChatOnDemand(os.environ)
        self._reports: Reports | None = None
        self._observer = Observer(self._present, hosting.users, os.environ)
        self._open_accounts(accounts_path(self.settings, os.environ))
        self._store = _open_responses(self.settings)

    # Lifecycle ---------------------------------------------------------------------------------

    @functools.cached_property
    def _seal(self) -> Seal:
        """Made with the first turn, so that a start without one leaves no key behind."""
        return installed_seal(key_path(os.environ))

    def load(self, loader: Loader) -> None:
        QwenBridge._latest = self
        self._reports = reports_to_starter()
        missing = failover_layer.missing_api()
        if missing:
            logger.error(
                "qwen-mitm does not know this mitmproxy: %s missing. It is tested with 12.0.1 to "
                "12.3.1; install one of these.",
                ", ".join(missing),
            )
        try:
            self._ambient = ambient_sources(os.environ, Path.cwd())
            defaults = merge(self._ambient)
        except SettingsError as error:
            logger.error("qwen-mitm: %s", error)
            defaults = self.settings
        declare_options(loader, defaults)
        self._inspector.load()
        hosting.take_deferred_options()
        # An eager connection would answer the CONNECT with 502 when the claimed name is dead.
        ctx.options.update(connection_strategy="lazy")
        if not ctx.options.listen_host and not peers_may_be_remote(defaults):
            ctx.options.update(listen_host="127.0.0.1")

    def configure(self, updated: set[str]) -> None:
        before = self.settings
        try:
            self.settings = hosting.checked_settings(self._ambient)
            if "qwen_prices" in updated:
                self._inspector.price(self.settings.prices)
        except SettingsError as error:
            if self._running:
                raise exceptions.OptionsError(str(error)) from None
            logger.error("qwen-mitm: %s", error)
            return
        kept = ("responses_file", "responses_days", "responses_mb")
        if any(getattr(before, name) != getattr(self.settings, name) for name in kept):
            self._store.close()
            self._store = _open_responses(self.settings)
        path = accounts_path(self.settings, os.environ)
        if path != self._ledger.store.path:
            self._ledger.close()
            self._open_accounts(path)
        if self._running:
            self._observer.follow(self.settings)

    def _open_accounts(self, path: Path) -> None:
        store = AccountStore(path)
        self._ledger = Ledger(
            store,
            self._get_settings,
            os.environ,
            _now_ms,
            # Processes that share the file need not all begin with the same account.
            start=os.getpid(),
            has_twins=WORKER_VARIABLE in os.environ,
        )
        self._refresher = Refresher(store, open_client, self._get_settings, _now_ms)
        self._attempts = Attempts(
            self._ledger, self._refresher, self._get_settings, _now_ms, self._web_chat
        )

    def _get_settings(self) -> Settings:
        return self.settings

    def running(self) -> None:
        self._running = True
        for source in self._ambient:
            if source.name != "environment" and (unknown := unknown_keys(source)):
                logger.warning("qwen-mitm: %s: unknown %s", source.name, ", ".join(unknown))
        stopping.stop_on_hangup(ctx.master.shutdown)
        if not any(mode.startswith("upstream:") for mode in ctx.options.mode):
            self._outward = Outward(os.environ)
            hosting.take_network_proxies(self._outward)
        hosting.listen_on_loopback(self.settings)
        self._inspector.running()
        hosting.warn_of_risks(self._ledger)
        hosting.trust_more(os.environ, state_home(os.environ))
        self._observer.follow(self.settings)
        with suppress(BridgeError):  # hosting.warn_of_risks has told of it.
            self._web_chat.begin(self._ledger.accounts())
        hosts = ", ".join(str(origin) for origin in self.settings.origins)
        logger.info("qwen-mitm rewrites Responses requests to %s.", hosts)
        if self._reports:
            hosting.tell_the_starter(self._reports, self.settings)

    def done(self) -> Awaitable[None] | None:
        # What comes back is awaited when mitmproxy ends, and dropped when it reloads the script.
        if ctx.master.should_exit.is_set():
            return self._stop()
        self._close_files()
        return None

    async def _stop(self) -> None:
        """End what runs while the clients can still be told, and write what is worth keeping."""
        self._stopping = True
        with stopping.Patience() as patience:
            await failover_layer.end_streams(ProxyStopped())
            await patience.until(lambda: not self._exchanges)
            self._ledger.finish()
            self._observer.finish()
            await patience.until(lambda: not (self._refresher.is_busy or self._ledger.is_writing))
            await patience.until(lambda: not self._observer.is_busy)
        if self._refresher.is_busy or self._ledger.is_writing:
            logger.warning("qwen-mitm: did not wait for what hangs: %s.", self._ledger.store.path)
        self._forget()

    def _close_files(self) -> None:
        self._ledger.close()
        self._observer.close()
        self._forget()

    def _forget(self) -> None:
        self._web_chat.close()
        self._store.close()
        self._arrivals.clear()
        self._exchanges.clear()
        self._inspector.close()
        self._sockets.clear()

    # Connections -------------------------------------------------------------------------------

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        # mitmproxy leaves it open when it cancels the connection's handler at a bad moment; the
        # streams look at the state (FailoverStream._tick).
        data.server.state = connection.ConnectionState.CLOSED

    def client_connected(self, client: connection.Client) -> None:
        if not (is_loopback(client.peername[0]) or peers_may_be_remote(self.settings)):
            client.error = "qwen-mitm: only programs on this machine may use the accounts"

    def http_connect(self, flow: http.HTTPFlow) -> None:
        request = flow.request
        if self._is_guest(flow) and not self.claims_address(request.host, request.port):
            _answer(flow, Unauthorized(FOR_GUESTS))

    def _is_guest(self, flow: http.HTTPFlow) -> bool:
        return not is_loopback(flow.client_conn.peername[0])

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        try:
            failover_layer.route(nextlayer, self, intercept_others=bool(ctx.options.allow_hosts))
        except Exception:
            logger.exception("qwen-mitm: a bug in routing; the connection is closed")
            nextlayer.layer = failover_layer.Closed(nextlayer.context)

    # Requests ----------------------------------------------------------------------------------

    @property
    def body_limit(self) -> int:
        return self.settings.max_body_mb * 2**20

    def claims_address(self, host: str, port: int) -> bool:
        """Whether a tunnel to this address may hold requests that are answered here."""
        wanted = (host.rstrip(".").lower(), port)
        claimed = ((origin.host, origin.port) for origin in self.settings.origins)
        return wanted in ((STATUS_HOST, 443), *claimed)

    def via(self, scheme: str, host: str, port: int) -> Via | None:
        proxy = self._outward.proxy_for(scheme, host, port)
        return proxy.via if proxy else None

    def http_connect_upstream(self, flow: http.HTTPFlow) -> None:
        """The one place where the password of the network's proxy leaves its wrapper."""
        host, port, *_ = flow.server_conn.address or ("", 0)
        if login := self._outward.authorization(host, port):
            flow.request.headers["proxy-authorization"] = login.get_secret_value()

    def claims(self, flow: http.HTTPFlow) -> bool:
        """By the request's destination; the Host header is the client's to choose."""
        if flow.id in self._arrivals:
            return True
        request = flow.request
        origin = Origin(request.scheme, request.host.rstrip(".").lower(), request.port)
        return origin in self.settings.origins

    def exchange(self, flow: http.HTTPFlow) -> Exchange | None:
        # A connection that outlives a reload of the script asks the addon that it began with,
        # and its hooks go to the new one.
        return (QwenBridge._latest or self)._exchanges.get(flow.id)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if METADATA_KEY in flow.metadata:
            # Of a file, and over; or replayed.
            return
        if hosting.asked_of_proxy(flow) is not None or not self.claims(flow):
            return
        request = flow.request
        socket = self._sockets.of_turn(flow.id)
        self._arrivals[flow.id] = (
            socket.arrival
            if socket
            else Arrival(request.method, request.path, tuple(request.headers.fields))
        )
        # From here on the flow can be seen: in mitmweb, in saved files, in the log.
        for name in CREDENTIALS:
            request.headers.pop(name.decode(), None)

    def request(self, flow: http.HTTPFlow) -> None:
        if flow.is_replay == "request" and METADATA_KEY in flow.metadata:
            _answer(flow, InvalidRequest("Turns cannot be replayed. Repeat it from the client."))
            return
        if (path := hosting.asked_of_proxy(flow)) is not None:
            # Another addon may have refused it (proxyauth).
            if flow.response is None:
                _respond(flow, self._status(flow, path))
            return
        arrival = self._arrivals.get(flow.id)
        if arrival is None:
            self._inspector.other(flow)
            if self._is_guest(flow) and not self.claims(flow):
                _answer(flow, Unauthorized(FOR_GUESTS))
            elif flow.server_conn.via is None and not flow.server_conn.connected:
                request = flow.request
                flow.server_conn.via = self.via(request.scheme, request.host, request.port)
            return
        try:
            if self._stopping:
                raise ProxyStopped
            self._begin(flow, arrival)
        except BridgeError as error:
            _answer(flow, error)
            self._inspector.refused(flow, error)
        except Exception:
            logger.exception("qwen-mitm: a bug in the request of flow %s", flow.id)
            _answer(flow, TranslationFault("qwen-mitm could not translate this request."))

    def _status(self, flow: http.HTTPFlow, path: str) -> Answer:
        if asked := hosting.asked(flow, path):
            return self._observer.answer(asked)
        status = self._present().status
        return status_answer(flow.request.method, path, not self._is_guest(flow), status)

    def _present(self) -> Present:
        running = (exchange.inner for exchange in self._exchanges.values())
        streams = sum(isinstance(inner, Turn) and inner.streams for inner in running)
        currency = self._inspector.prices.currency
        return hosting.present(self.settings, self._ledger, self._skew, streams, currency)

    def _begin(self, flow: http.HTTPFlow, arrival: Arrival) -> None:
        admit(arrival.fields, self.settings)
        if arrival.upgrades:
            _respond(flow, self._upgrade(flow, arrival))
            return
        socket = self._sockets.of_turn(flow.id)
        if socket:
            socket.state.below = self._store
        around = Surroundings(
            self.settings,
            time.monotonic,
            time.time,
            _new_id,
            _noise,
            self._seal,
            socket.state if socket else self._store,
            self._recent,
            on_socket=socket is not None,
        )
        content = flow.request.raw_content or b""
        stored = stored_answer(arrival, content, around)
        if stored is not None:
            _respond(flow, stored)
            return
        inner = begin(arrival, content, self._attempts.first_dialect, around)
        if isinstance(inner, Answer):
            _respond(flow, inner)
            return
        accepted = functools.partial(self._attempts.accepted, inner)
        self._exchanges[flow.id] = Guarded(inner, flow, accepted)
        self._inspector.began(flow, inner, content, arrival.header("content-encoding"))

    def _upgrade(self, flow: http.HTTPFlow, arrival: Arrival) -> Answer:
        if not (self.settings.websocket and ctx.options.websocket):
            raise UpgradeRefused(
                "WebSocket mode is switched off. Send the request as POST, over HTTP."
            )
        if flow.request.http_version != "HTTP/1.1":
            raise UpgradeRefused("WebSocket mode needs HTTP/1.1. Send the request as POST.")
        return self._sockets.open(flow.id, arrival, self._store)

    def begin_turn(self, socket: http.HTTPFlow, turn: http.HTTPFlow) -> bool:
        return (QwenBridge._latest or self)._sockets.begin_turn(socket.id, turn.id)

    async def qwen_attempt(self, exchange: Guarded) -> None:
        """The failover layer asks what next (failover_layer.AttemptHook)."""
        inner = exchange.inner
        self._inspector.asking(exchange.flow, inner)
        decision = await self._attempts.next(inner)
        if self._stopping:
            decision = GiveUp(ProxyStopped())
        if isinstance(decision, Send) and hosting.is_own_port(decision.host, decision.port):
            decision = GiveUp(
                NoUsableAccount(
                    f"The base URL of account {decision.account!r} is this proxy itself. Give it "
                    "the address of its provider."
                )
            )
        exchange.decision = decision
        if isinstance(decision, Send):
            inner.sent(decision)
            self._inspector.sent(exchange.flow, decision)

    # Commands ----------------------------------------------------------------------------------

    @command.command("qwen.accounts")
    def list_accounts(self) -> Sequence[str]:
        """List the accounts and their states."""
        try:
            return self._ledger.describe()
        except BridgeError as error:
            raise exceptions.CommandError(error.message) from None

    @command.command("qwen.clear_cooldown")
    def clear_cooldown(self, name: str = "") -> None:
        """Let an account be asked again although it is limited; without a name, all of them."""
        try:
            self._ledger.clear(name or None)
        except BridgeError as error:
            raise exceptions.CommandError(error.message) from None

    @command.command("qwen.export_case")
    def export_case(self, turn: flow.Flow, folder: types.Path, blank: bool = False) -> None:
        """Write a turn as a test case for a bug report; with blank, its texts as x."""
        self._inspector.export(turn, folder, self._store, self._seal, blank=blank)

    @command.command("qwen.export")
    def export(self, turn: flow.Flow, folder: types.Path, blank: bool = False) -> None:
        """The same as qwen.export_case; mitmweb calls no command with an underscore."""
        self._inspector.export(turn, folder, self._store, self._seal, blank=blank)

    @command.command("qwen.retranslate")
    def retranslate(self, turn: flow.Flow) -> Sequence[str]:
        """Translate a turn that is over once more, and say what is different; nothing is sent."""
        return self._inspector.retranslate(turn, self._store, self._seal)

    # Ends --------------------------------------------------------------------------------------

    def response(self, flow: http.HTTPFlow) -> None:
        status = flow.response.status_code if flow.response else 0
        self._close(flow, f"refused with {status}" if status >= 400 else None)

    def error(self, flow: http.HTTPFlow) -> None:
        self._sockets.close(flow.id)
        self._close(flow, flow.error.msg if flow.error else "unknown")

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        socket = self._sockets.close(flow.id)
        if socket:
            flow.comment = f"WebSocket · {socket.turns} turn{'s' * (socket.turns != 1)}"

    def _close(self, flow: http.HTTPFlow, failure: str | None) -> None:
        arrival = self._arrivals.pop(flow.id, None)
        shown = ctx.master.addons.get("view")
        if arrival:
            self._kept.finished(flow.id, shown, self.settings.keep_flows)
        elif hosting.asked_of_proxy(flow) is not None:
            # The status page asks every few seconds; turns must not give way to that.
            self._asked.finished(flow.id, shown, ASKED_FLOWS)
        self._sockets.end_turn(flow.id)
        exchange = self._exchanges.pop(flow.id, None)
        if exchange is None:
            if arrival and failure:
                self._tell(request_refused(flow, failure))
            return
        inner = exchange.inner
        self._skew = skew_of(inner, time.monotonic(), time.time()) or self._skew
        self._inspector.ended(flow, inner, failure)
        # That the proxy ends is nobody else's failure.
        blamed = None if self._stopping else inner.failure
        self._attempts.ended(inner, blamed, inner.tokens)
        if isinstance(inner, Turn):
            line = inner.line(failure)
            if not self.settings.quiet_mode:
                logger.info("qwen-mitm: %s", line)
            self._tell(turn_ended(inner, flow, line, self._inspector.prices))

    def _tell(self, ended: TurnEnded | RequestRefused) -> None:
        self._observer.tell(ended)
        if self._reports:
            self._reports.send(ended)


def _answer(flow: http.HTTPFlow, error: BridgeError) -> None:
    _respond(flow, failover_layer.refusal(error))


def _respond(flow: http.HTTPFlow, answer: Answer) -> None:
    flow.response = http.Response.make(answer.status, answer.body, http.Headers(answer.fields))
    if answer.status == SWITCHING_PROTOCOLS:
        # Which must not have one (RFC 9110 §8.6).
        del flow.response.headers["content-length"]


def _open_responses(settings: Settings) -> ResponsesStore:
    """Opens nothing yet: the file is made with the first response."""
    return ResponsesStore(
        responses_path(os.environ, settings.responses_file),
        max_age_s=settings.responses_days * 86_400,
        max_bytes=settings.responses_mb * 2**20,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def _noise(length: int) -> str:
    return secrets.token_urlsafe(length)[:length]
