"""Ends the streams of every connection, while mitmproxy can still write to the clients."""

from __future__ import annotations

from mitmproxy import ctx
from mitmproxy.proxy import events

from qwen_mitm.errors import BridgeError

from .connection import LAYERS


async def end_streams(error: BridgeError) -> None:
    """Let each stream end with this error: in its last events, or as its whole answer.

    When this returns the streams know; their hooks may still be running.
    """
    connections = ctx.master.addons.get("proxyserver").connections
    for layer in list(LAYERS):
        layer.ending = error
        handler = connections.get(layer.context.client.id)
        if handler is not None and layer.ticker is not None:
            # The next second begins now.
            await handler.server_event(events.Wakeup(layer.ticker))
