from __future__ import annotations

import asyncio
import ssl
from typing import Any

import h2.errors
import httpx
import pytest

from qwen_mitm.simulator import Simulator

from .chat import RawHttp2, ask, body, client_for, events, streaming, text_of

Secure = tuple[Simulator, httpx.AsyncClient]


async def test_an_answer_streams_over_tls(secure: Secure) -> None:
    simulator, client = secure
    response = await ask(client, body("two words"))
    assert response.status_code == 200
    assert "two words" in text_of(events(response.text))
    assert response.text.endswith("data: [DONE]\n\n")
    assert simulator.requests[0].http_version == response.http_version.removeprefix("HTTP/")[:3]


async def test_what_arrived_is_recorded(secure: Secure) -> None:
    simulator, client = secure
    await ask(client, body("two words"))
    request = simulator.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.header("Authorization") == "Bearer token-for-tests"
    assert request.json["messages"][0]["content"] == "two words"
    assert (request.outcome, request.status) == ("answered", 200)


async def test_requests_of_one_connection_share_its_number(secure: Secure) -> None:
    simulator, client = secure
    await ask(client, body())
    await ask(client, body())
    assert [request.connection for request in simulator.requests] == [1, 1]


async def test_a_gate_holds_the_second_chunk_back(secure: Secure) -> None:
    simulator, client = secure
    async with streaming(client, body(model="sim-gate-a")) as response:
        pieces = response.aiter_text()
        first = await anext(pieces)
        await simulator.reached("a")
        assert len(events(first)) == 1
        simulator.release("a")
        rest = "".join([piece async for piece in pieces])
    assert rest.endswith("data: [DONE]\n\n")


async def test_a_client_that_goes_away_is_recorded_at_once(secure: Secure) -> None:
    simulator, client = secure
    async with streaming(client, body(model="sim-gate-a@2")) as response:
        pieces = response.aiter_bytes()
        await anext(pieces)
        await simulator.reached("a")
        await client.aclose()
        await simulator.closed()
    assert simulator.requests[0].outcome == "cancelled"
    assert simulator.requests[0].cancelled_after_chunks == 2


async def test_a_stream_that_the_client_resets_is_recorded_and_the_connection_lives_on() -> None:
    async with Simulator() as simulator:
        connection = await RawHttp2.open(simulator)
        first = connection.ask(body(model="sim-gate-a@2"))
        await connection.flush()
        await simulator.reached("a")
        connection.protocol.reset_stream(first, h2.errors.ErrorCodes.CANCEL)
        await connection.flush()
        await simulator.closed()
        connection.ask(body())
        await connection.flush()
        await simulator.closed(2)
        await connection.close()
    assert [r.outcome for r in simulator.requests] == ["cancelled", "answered"]
    assert simulator.requests[0].cancelled_after_chunks == 2
    assert {r.connection for r in simulator.requests} == {1}


async def test_a_client_that_goes_away_before_the_head_is_recorded(secure: Secure) -> None:
    simulator, client = secure
    asking = asyncio.ensure_future(ask(client, body(model="sim-hang")))
    await simulator.received()
    asking.cancel()
    await asyncio.wait([asking])
    await client.aclose()
    await simulator.closed()
    assert simulator.requests[0].cancelled_after_chunks == 0


async def test_other_streams_of_a_connection_survive_a_reset() -> None:
    async with Simulator() as simulator, client_for(simulator, http2=True) as client:
        async with streaming(client, body(model="sim-gate-a")) as kept:
            with pytest.raises(httpx.RemoteProtocolError):
                await ask(client, body(model="sim-reset"))
            simulator.release("a")
            assert (await kept.aread()).endswith(b"data: [DONE]\n\n")
        assert [r.outcome for r in simulator.requests] == ["answered", "broken"]
        assert {r.connection for r in simulator.requests} == {1}


async def test_many_streams_share_one_connection() -> None:
    async with Simulator() as simulator, client_for(simulator, http2=True) as client:
        answers = await asyncio.gather(
            *(ask(client, body(f"number {n}", "sim-paced-500hz")) for n in range(64))
        )
    assert all(f"number {n}" in text_of(events(a.text)) for n, a in enumerate(answers))


async def test_a_large_request_and_a_large_answer_pass(secure: Secure) -> None:
    simulator, client = secure
    response = await ask(client, body("x" * 2_000_000, model="sim-wide-1000000"))
    assert text_of(events(response.text)) == "x" * 1_000_000
    assert len(simulator.requests[0].body) > 2_000_000


async def test_http2_can_be_switched_off() -> None:
    async with Simulator(http2=False) as simulator:
        context = ssl.create_default_context(cafile=simulator.ca_pem)
        async with httpx.AsyncClient(
            base_url=simulator.base_url, http2=True, verify=context, trust_env=False
        ) as client:
            response = await client.get("/models", headers={"authorization": "Bearer t"})
    assert response.http_version == "HTTP/1.1"


async def test_the_certificate_is_good_for_the_hosts_it_stands_in_for() -> None:
    async with Simulator() as simulator:
        context = ssl.create_default_context(cafile=simulator.ca_pem)
        for host in ("portal.qwen.ai", "coding-intl.dashscope.aliyuncs.com", "localhost"):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", simulator.port, ssl=context, server_hostname=host
            )
            writer.close()
            await writer.wait_closed()


async def test_stopping_ends_answers_under_way() -> None:
    async with Simulator(tls=False) as simulator:
        client = client_for(simulator)
        asking = asyncio.ensure_future(ask(client, body(model="sim-hang")))
        await simulator.received()
    failed: Any = (await asyncio.gather(asking, return_exceptions=True))[0]
    await client.aclose()
    assert isinstance(failed, httpx.TransportError)
