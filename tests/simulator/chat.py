"""A small Chat Completions client for the simulator's own tests."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import h2.config
import h2.connection
import httpx

from qwen_mitm.simulator import Simulator

BEARER = {"authorization": "Bearer token-for-tests"}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
                "days": {"type": "integer", "minimum": 2},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
CLOCK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object"}},
}


def client_for(simulator: Simulator, *, http2: bool = False) -> httpx.AsyncClient:
    tls = simulator.url.startswith("https")
    verify = ssl.create_default_context(cafile=simulator.ca_pem) if tls else False
    return httpx.AsyncClient(
        base_url=simulator.base_url,
        headers=BEARER,
        http2=http2,
        http1=not http2,
        verify=verify,
        trust_env=False,
    )


def body(
    text: str = "hello there", model: str = "qwen3-coder-plus", **fields: Any
) -> dict[str, Any]:
    return {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": text}],
        "stream_options": {"include_usage": True},
    } | fields


async def ask(client: httpx.AsyncClient, document: Any) -> httpx.Response:
    return await client.post("/chat/completions", json=document)


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, document: Any) -> AsyncIterator[httpx.Response]:
    async with client.stream("POST", "/chat/completions", json=document) as response:
        yield response


def events(text: str) -> list[Any]:
    """The data of each event as JSON, without [DONE]."""
    found = [line.removeprefix("data:").strip() for line in text.split("\n")]
    return [json.loads(data) for data in found if data.startswith("{")]


def text_of(stream: list[Any], key: str = "content") -> str:
    return "".join(
        choice["delta"].get(key) or "" for chunk in stream for choice in chunk["choices"]
    )


def calls_of(stream: list[Any]) -> dict[int, tuple[str, str]]:
    """Name and arguments of each call by its index, for well-formed streams."""
    calls: dict[int, tuple[str, str]] = {}
    for chunk in stream:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                name, arguments = calls.get(call["index"], ("", ""))
                name += call["function"].get("name", "")
                calls[call["index"]] = (name, arguments + call["function"]["arguments"])
    return calls


class RawHttp2:
    """httpx resets no stream when an answer is abandoned, so this does it by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        config = h2.config.H2Configuration(client_side=True)
        self.protocol = h2.connection.H2Connection(config)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, simulator: Simulator) -> Self:
        context = ssl.create_default_context(cafile=simulator.ca_pem)
        context.set_alpn_protocols(["h2"])
        opened = await asyncio.open_connection("127.0.0.1", simulator.port, ssl=context)
        connection = cls(*opened)
        connection.protocol.initiate_connection()
        await connection.flush()
        return connection

    def ask(self, document: Any) -> int:
        stream_id = self.protocol.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "https", ":authority": "portal.qwen.ai"}
        path = {":path": "/v1/chat/completions"}
        self.protocol.send_headers(stream_id, list((head | path | BEARER).items()))
        self.protocol.send_data(stream_id, json.dumps(document).encode(), end_stream=True)
        return stream_id

    async def flush(self) -> None:
        self._writer.write(self.protocol.data_to_send())
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()
