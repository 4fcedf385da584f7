"""Failover inside mitmproxy's HTTP layer: the one place that uses mitmproxy's private API.

A subclass of ``HttpStream`` takes over the server side of each request that the gateway claims.
It asks the addon before every attempt (``qwen_attempt``), sends the request over mitmproxy's own
upstream connections, and starts the client's answer only when an upstream answer is good; then it
passes every piece through the exchange as it arrives. It knows nothing of accounts, and of formats
the messages of a WebSocket alone (websocket.py).

    connecting ─▶ head ─▶ offered ─▶ streaming ─▶ last_bytes ─▶ done
        │           │        │  (2xx)      │ upstream lost: the exchange's last events
        │           ├─▶ refused (bounded drain)
        └───────────┴────────┴──▶ ask again: send | wait | give up

Time is counted in ticks of one second that the layer of the client's connection hands to all its
streams; so a stream has no timer of its own, and nothing is done per chunk but to set a counter.

Facts this rests on are in the mitmproxy sources (12.0.1 to 12.3.1: proxy/layers/http/).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Mapping

from h11._receivebuffer import ReceiveBuffer
from mitmproxy import ctx
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer, modes
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, RequestHeaders
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Client
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.proxy.mode_servers import AsyncioServerInstance

from .connection import FailoverLayer
from .ending import end_streams
from .stream import (
    DRAIN_LIMIT_BYTES,
    DRAIN_LIMIT_TICKS,
    TICK_S,
    AttemptHook,
    Commands,
    FailoverStream,
    Gateway,
    refusal,
)

__all__ = [
    "DRAIN_LIMIT_BYTES",
    "DRAIN_LIMIT_TICKS",
    "TICK_S",
    "AttemptHook",
    "Closed",
    "FailoverLayer",
    "FailoverStream",
    "Gateway",
    "end_streams",
    "missing_api",
    "refusal",
    "route",
]

#: mitmproxy allows five connections per address and client connection, and HTTP/2 clients need one
#: per stream when the upstream speaks HTTP/1.1; so a sixth stream would wait for another's end.
CONNECTIONS_PER_ADDRESS = 256
#: Where mitmproxy itself hands out its CA.
ONBOARDING_HOST = "mitm.it"


class Closed(layer.Layer):
    """Closes the client's connection."""

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


def route(next_layer: layer.NextLayer, gateway: Gateway, *, intercept_others: bool) -> None:
    """Decide what a connection's next layer is, before mitmproxy's own addon does.

    Tunnels to addresses that are not claimed are passed through undecrypted, unless the user has
    said which others to intercept (``allow_hosts``).
    """
    context = next_layer.context
    address = context.server.address
    if (
        address is not None
        and not intercept_others
        and context.client.transport_protocol == "tcp"
        # Whoever points a reverse proxy at a host wants to see its traffic.
        and not isinstance(context.layers[0], modes.ReverseProxy)
        and not gateway.claims_address(address[0], address[1])
        and address[0] != ONBOARDING_HOST
    ):
        next_layer.layer = _tunnel(context, gateway)
        return
    ctx.master.addons.get("nextlayer").next_layer(next_layer)
    _install(context, gateway)


def _tunnel(context: Context, gateway: Gateway) -> layer.Layer:
    """Passes everything on, undecrypted; through the network's proxy, if it has one."""
    assert context.server.address
    host, port, *_ = context.server.address
    if context.server.via is None:
        context.server.via = gateway.via("https", host, port)
        if context.server.via is not None:
            stack = HttpUpstreamProxy.make(context, True)
            stack /= TCPLayer(context, ignore=True)
            return stack[0]
    return TCPLayer(context, ignore=True)


def _install(context: Context, gateway: Gateway) -> None:
    """Turn the stock HTTP layers of a context that has not started yet into ours."""
    for found in context.layers:
        if type(found) is HttpLayer:
            found.__class__ = FailoverLayer
            assert isinstance(found, FailoverLayer)
            found.adopt(gateway)
    handler = ctx.master.addons.get("proxyserver").connections.get(context.client.id)
    if handler is not None:
        handler.max_conns.default_factory = _connection_limit


def _connection_limit() -> asyncio.Semaphore:
    return asyncio.Semaphore(CONNECTIONS_PER_ADDRESS)


def _annotations(owner: type) -> Iterator[Mapping[str, object]]:
    return map(inspect.get_annotations, owner.__mro__)


def missing_api() -> list[str]:
    """Names that this module overrides or reads and that mitmproxy no longer has."""
    parent = """_handle_event make_stream event_to_child command_sources connections streams
    get_connection waiting_for_establishment"""
    stream = """_handle_event check_body_size check_killed flow_done make_server_connection mode
    send_response start_request_stream state_consume_request_body state_done state_errored"""
    expected: list[tuple[type, str]] = [
        (layer.Layer, "_paused"),
        (HttpLayer, parent),
        (HttpStream, stream),
        (Http1Server, "buf conn send stream_id"),
        (Http1Client, "read_headers stream_id"),
        (RequestHeaders, "replay_flow"),
        (Http2Client, "h2_conn stream_queue"),
        (BufferedH2Connection, "receive_data"),
        (HttpUpstreamProxy, "make"),
        (ReceiveBuffer, "maybe_extract_at_most"),
        (AsyncioServerInstance, "listen handle_stream"),
    ]
    return [
        f"{owner.__name__}.{name}"
        for owner, names in expected
        for name in names.split()
        if not hasattr(owner, name) and not any(name in notes for notes in _annotations(owner))
    ]
