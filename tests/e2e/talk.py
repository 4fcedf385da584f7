"""A WebSocket to a proxy, in the words of WebSocket mode; every response obeys every rule."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.e2e.clients import CLIENT_KEY, Way
from tests.event_checker import TERMINAL, Event, check_events

PATIENCE_S = 10.0


def socket_options(way: Way) -> dict[str, Any]:
    """How a WebSocket reaches the proxy."""
    if way.reverse:
        return {"proxy": None}
    return {"proxy": way.proxy.url, "ssl": ssl.create_default_context(cafile=way.proxy.ca)}


class Talk:
    """One connection. The caller closes ``socket``."""

    def __init__(self, way: Way, headers: Mapping[str, str] | None = None) -> None:
        key = {"authorization": f"Bearer {CLIENT_KEY}"}
        self.socket: ClientConnection = connect(
            f"{way.base_url.replace('http', 'ws', 1)}/responses",
            additional_headers=key if headers is None else headers,
            **socket_options(way),
        )

    def create(self, said: Any = "hello there", **fields: Any) -> None:
        message = {"type": "response.create", "model": "qwen3-coder-plus", "input": said}
        self.socket.send(json.dumps(message | fields))

    def hear(self) -> Event:
        text = self.socket.recv(timeout=PATIENCE_S)
        assert isinstance(text, str)
        event: Event = json.loads(text)
        return event

    def events(self) -> list[Event]:
        """Those of one response, which is not refused."""
        events = [self.hear()]
        while events[-1]["type"] not in TERMINAL:
            assert events[-1]["type"] != "error", events[-1]
            events.append(self.hear())
        check_events(events)
        return events

    def turn(self, said: Any = "hello there", **fields: Any) -> Event:
        """The Response object of a turn."""
        self.create(said, **fields)
        response: Event = self.events()[-1]["response"]
        return response

    def refused(self, said: Any = "hello there", **fields: Any) -> Event:
        """The error of a turn."""
        self.create(said, **fields)
        event = self.hear()
        assert event["type"] == "error", event
        return event
