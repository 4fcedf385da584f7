"""The anchor, the least a rewriting addon does: loads and dumps of the request and each event."""

import json

from mitmproxy import http


class Reserialise:
    def __init__(self) -> None:
        self._buffer = b""

    def __call__(self, data: bytes) -> list[bytes]:
        *events, self._buffer = (self._buffer + data).split(b"\n\n")
        return [self._event(event) for event in events]

    def _event(self, event: bytes) -> bytes:
        payload = event.removeprefix(b"data: ")
        if payload == b"[DONE]":
            return event + b"\n\n"
        return b"data: " + json.dumps(json.loads(payload)).encode() + b"\n\n"


def request(flow: http.HTTPFlow) -> None:
    content = flow.request.get_content()
    assert content
    flow.request.content = json.dumps(json.loads(content)).encode()


def responseheaders(flow: http.HTTPFlow) -> None:
    assert flow.response
    flow.response.stream = Reserialise()
