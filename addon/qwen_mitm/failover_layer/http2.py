"""HTTP/2 connections to upstreams that hand on what one read brought in one piece."""

from __future__ import annotations

from typing import Any

from h2.events import ConnectionTerminated, DataReceived
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection


class JoiningH2Connection(BufferedH2Connection):
    """Joins the DATA frames that came in one read, each stream's with its own.

    mitmproxy pays for each frame as it does for each HTTP chunk (``http1.BodyReader``).
    """

    def receive_data(self, data: bytes) -> list[Any]:
        return joined(super().receive_data(data))


def joined(events: list[Any]) -> list[Any]:
    """What happens to a stream keeps its order, as does what ends the connection."""
    kept: list[Any] = []
    growing: dict[int | None, list[DataReceived]] = {}
    for event in events:
        # Events of the whole connection have none; only one of them stops the reading.
        stream_id = getattr(event, "stream_id", None)
        if not isinstance(event, DataReceived):
            ended = list(growing) if isinstance(event, ConnectionTerminated) else [stream_id]
            for each in ended:
                _join(growing.pop(each, []))
            kept.append(event)
        elif stream_id in growing:
            growing[stream_id].append(event)
        else:
            growing[stream_id] = [event]
            kept.append(event)
    for frames in growing.values():
        _join(frames)
    return kept


def _join(frames: list[DataReceived]) -> None:
    """Puts them all into the first one."""
    if len(frames) > 1:
        first = frames[0]
        first.data = b"".join(frame.data for frame in frames)
        # Padding counts too.
        first.flow_controlled_length = sum(frame.flow_controlled_length for frame in frames)
        first.stream_ended = frames[-1].stream_ended
