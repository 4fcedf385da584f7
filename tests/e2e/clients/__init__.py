"""How a client reaches a proxy: through HTTPS_PROXY semantics, or with its base URL."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Any

import httpx
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from tests.e2e.proxy import Proxy
from tests.event_checker import Event, check_events, events_of

CLIENT_KEY = "fake-client-key"


class Http2Alone(ssl.SSLContext):
    """Offers no other protocol; httpx would offer HTTP/1.1 first, and mitmproxy takes that."""

    def set_alpn_protocols(self, _protocols: object) -> None:
        super().set_alpn_protocols(["h2"])


@dataclass(frozen=True)
class Way:
    """Clients for one proxy. The caller closes them."""

    proxy: Proxy
    reverse: bool = False

    @property
    def base_url(self) -> str:
        return f"{self.proxy.url}/v1" if self.reverse else "https://portal.qwen.ai/v1"

    @property
    def _connection(self) -> dict[str, Any]:
        if self.reverse:
            return {"trust_env": False}
        verify = ssl.create_default_context(cafile=self.proxy.ca)
        return {"trust_env": False, "proxy": self.proxy.url, "verify": verify}

    def openai(self) -> OpenAI:
        return OpenAI(
            api_key=CLIENT_KEY,
            base_url=self.base_url,
            max_retries=0,
            timeout=10,
            http_client=DefaultHttpxClient(**self._connection),
        )

    def async_openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            api_key=CLIENT_KEY,
            base_url=self.base_url,
            max_retries=0,
            timeout=10,
            http_client=DefaultAsyncHttpxClient(**self._connection),
        )

    def http(self, *, http2: bool = False) -> httpx.Client:
        connection = self._connection
        if http2:
            connection["verify"] = Http2Alone(ssl.PROTOCOL_TLS_CLIENT)
            connection["verify"].load_verify_locations(self.proxy.ca)
        return httpx.Client(
            base_url=self.base_url,
            http2=http2,
            timeout=10,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            **connection,
        )


def checked_events(answer: httpx.Response) -> list[Event]:
    """The events of a streamed answer, which obeys every rule."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.content)
    check_events(events)
    return events


def final(answer: httpx.Response) -> Event:
    """The Response object of an answer, streamed or not."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        response: Event = checked_events(answer)[-1]["response"]
        return response
    assert answer.status_code == 200, answer.text
    document: Event = answer.json()
    return document


def text_of(response: Event) -> str:
    """All the text that a response says, refusals too."""
    parts = [p for item in response["output"] if item["type"] == "message" for p in item["content"]]
    return "".join(part["text"] if part["type"] == "output_text" else "" for part in parts)


def calls_of(response: Event) -> list[tuple[str, str]]:
    items = response["output"]
    return [(i["name"], i["arguments"]) for i in items if i["type"] == "function_call"]


def thoughts_of(response: Event) -> str:
    items = [item for item in response["output"] if item["type"] == "reasoning"]
    parts = [p for item in items for p in (*item["summary"], *item.get("content", ()))]
    return "".join(part["text"] for part in parts)


def error_of(answer: httpx.Response) -> Event:
    """The error of an answer in OpenAI's shape: JSON with all four keys."""
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    document = json.loads(answer.content)
    assert document.keys() == {"error"}
    error: Event = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    return error


def header(received: Event, name: str) -> str | None:
    """A header of a request that the simulator received."""
    return next((value for key, value in received["headers"] if key.lower() == name), None)
