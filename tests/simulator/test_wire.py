from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import Simulator

from .chat import BEARER, ask, body, events, streaming, text_of

Secure = tuple[Simulator, httpx.AsyncClient]


async def http1(simulator: Simulator, model: str) -> bytes:
    """The raw answer of a plain simulator, up to its last byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    data = json.dumps(body(model=model)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: portal.qwen.ai\r\nconnection: close\r\n"
        f"authorization: {BEARER['authorization']}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("behaviour", "chunks"),
    [("drop", 3), ("drop-first", 0), ("unfinished-2", 2), ("cut-utf8", None), ("reset-1", 1)],
)
async def test_a_connection_breaks_where_it_was_told(
    secure: Secure, behaviour: str, chunks: int | None
) -> None:
    simulator, client = secure
    with pytest.raises(httpx.TransportError):
        await ask(client, body(model=f"sim-{behaviour}"))
    await simulator.closed()
    assert simulator.requests[0].outcome == "broken"
    assert chunks is None or simulator.requests[0].chunks_sent == chunks


async def test_an_answer_is_compressed_although_nobody_asked(secure: Secure) -> None:
    _, client = secure
    plain = {"accept-encoding": "identity"}
    document = body(model="sim-gzip")
    async with client.stream("POST", "/chat/completions", json=document, headers=plain) as response:
        assert response.headers["content-encoding"] == "gzip"
        data = b"".join([piece async for piece in response.aiter_raw()])
    assert "You said" in text_of(events(gzip.decompress(data).decode()))


async def test_a_compressed_chunk_can_be_read_before_the_next_exists(secure: Secure) -> None:
    simulator, client = secure
    async with streaming(client, body(model="sim-gzip+gate-a")) as response:
        pieces = response.aiter_raw()
        first = await anext(pieces)
        assert len(events(zlib.decompressobj(wbits=31).decompress(first).decode())) == 1
        simulator.release("a")
        rest = b"".join([piece async for piece in pieces])
    assert gzip.decompress(first + rest).endswith(b"[DONE]\n\n")


async def test_early_hints_and_trailers_pass(secure: Secure) -> None:
    _, client = secure
    response = await ask(client, body(model="sim-early-hints+trailers"))
    assert response.status_code == 200
    assert response.text.endswith("[DONE]\n\n")


async def test_early_hints_and_trailers_are_on_the_wire(simulator: Simulator) -> None:
    answer = await http1(simulator, "sim-early-hints+trailers")
    assert answer.startswith(b"HTTP/1.1 103")
    assert answer.endswith(b"0\r\nx-sim-trailer: yes\r\n\r\n")


async def test_a_body_can_end_with_its_connection(simulator: Simulator) -> None:
    head, _, rest = (await http1(simulator, "sim-429+until-close")).partition(b"\r\n\r\n")
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
    assert json.loads(rest)["error"]["code"] == "Throttling.RateQuota"


async def test_a_connection_is_closed_after_the_answer(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    first = await ask(client, body(model="sim-429+close"))
    await ask(client, body())
    assert first.headers["connection"] == "close"
    assert [request.connection for request in simulator.requests] == [1, 2]


async def test_the_body_of_a_refusal_can_be_large(secure: Secure) -> None:
    _, client = secure
    response = await ask(client, body(model="sim-429+big-body"))
    assert response.status_code == 429
    assert "content-length" not in response.headers
    assert len(response.content) > 300_000


@pytest.mark.parametrize("behaviour", ["endless-body", "stuck-body", "hang-after"])
async def test_an_answer_that_never_ends_is_left_by_the_client(
    secure: Secure, behaviour: str
) -> None:
    simulator, client = secure
    async with streaming(client, body(model=f"sim-429+{behaviour}")) as response:
        assert response.status_code == 429
        pieces = response.aiter_raw()
        await anext(pieces)
        await client.aclose()
        await simulator.closed()
    assert simulator.requests[0].outcome == "cancelled"


async def test_nothing_more_comes_after_done_but_the_stream_stays_open(secure: Secure) -> None:
    simulator, client = secure
    seen = ""
    async with streaming(client, body(model="sim-never-ends")) as response:
        async for piece in response.aiter_text():
            seen += piece
            if seen.endswith("[DONE]\n\n"):
                break
        assert simulator.requests[0].closed_at is None
        await client.aclose()
    await simulator.closed()
    assert simulator.requests[0].outcome == "cancelled"


async def test_json_can_answer_a_stream_and_a_stream_json(client: httpx.AsyncClient) -> None:
    document = await ask(client, body(model="sim-json-anyway"))
    assert document.json()["object"] == "chat.completion"
    stream = await ask(client, body(model="sim-sse-anyway", stream=False))
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert events(stream.text)


async def test_the_content_type_can_be_wrong_or_missing(client: httpx.AsyncClient) -> None:
    wrong = await ask(client, body(model="sim-content-type-text/plain"))
    assert wrong.headers["content-type"] == "text/plain"
    assert "content-type" not in (await ask(client, body(model="sim-content-type"))).headers


async def test_a_gate_before_the_head_holds_everything(secure: Secure) -> None:
    simulator, client = secure
    asking = asyncio.ensure_future(ask(client, body(model="sim-hold-a")))
    await simulator.reached("a")
    assert simulator.requests[0].status is None
    simulator.release("a")
    assert (await asking).status_code == 200


async def test_a_gate_before_a_drop_holds_the_drop(secure: Secure) -> None:
    simulator, client = secure
    async with streaming(client, body(model="sim-drop-2+gate-a@2")) as response:
        pieces = response.aiter_raw()
        await anext(pieces)
        await simulator.reached("a")
        simulator.release("a")
        with pytest.raises(httpx.TransportError):
            b"".join([piece async for piece in pieces])
    assert simulator.requests[0].outcome == "broken"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"authorization": "Bearer"}, 401), ({"authorization": "Basic eA=="}, 401)],
)
async def test_no_bearer_is_refused(simulator: Simulator, headers: Any, status: int) -> None:
    async with httpx.AsyncClient(base_url=simulator.base_url, trust_env=False) as client:
        assert (await client.get("/models", headers=headers)).status_code == status


async def test_only_known_bearers_are_accepted_once_some_are_known() -> None:
    async with (
        Simulator(tls=False, accounts={"token-a": "first"}) as simulator,
        httpx.AsyncClient(base_url=simulator.base_url, trust_env=False) as client,
    ):
        known = await client.get("/models", headers={"authorization": "Bearer token-a"})
        unknown = await client.get("/models", headers=BEARER)
    assert (known.status_code, simulator.requests[0].account) == (200, "first")
    assert unknown.status_code == 401
    assert unknown.json()["error"]["message"] == "invalid access token or token expired"


@pytest.mark.parametrize("path", ["/v1/responses/r", "/chat/completions", "/v1/chat"])
async def test_a_wrong_path_is_answered_404_without_a_body(simulator: Simulator, path: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(simulator.url + path, json=body(), headers=BEARER)
    assert (response.status_code, response.content) == (404, b"")


async def test_both_prefixes_work(simulator: Simulator) -> None:
    async with httpx.AsyncClient(trust_env=False, headers=BEARER) as client:
        address = f"{simulator.url}/compatible-mode/v1/chat/completions"
        assert (await client.post(address, json=body())).status_code == 200
