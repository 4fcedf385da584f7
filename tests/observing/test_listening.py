from __future__ import annotations

import logging

import httpx
import pytest

from qwen_mitm.exchange import Answer
from qwen_mitm.observing.listening import Listeners
from qwen_mitm.observing.page import Asked
from tests.e2e.flaky import unused_port


def echo(asked: Asked) -> Answer:
    return Answer(200, ((b"x-host", str(asked.host).encode()),), asked.path.encode())


async def test_ports_are_opened_and_closed_as_they_are_wanted() -> None:
    listeners = Listeners(echo, lambda: None)
    one, other = unused_port(), unused_port()
    async with httpx.AsyncClient(trust_env=False) as http:
        listeners.listen((one, one, 0))
        answer = await http.get(f"http://127.0.0.1:{one}/a?b")
        assert (answer.text, answer.headers["x-host"]) == ("/a", f"127.0.0.1:{one}")
        head = await http.head(f"http://127.0.0.1:{one}/a")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "2")

        listeners.listen((other,))
        assert (await http.get(f"http://127.0.0.1:{other}/")).status_code == 200
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{one}/")
        listeners.close()
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{other}/")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Basic dXNlcjpmYWtl", 200),
        ("basic dXNlcjpmYWtl", 200),
        ("Basic dXNlcjpvdGhlcg==", 401),
        ("Bearer dXNlcjpmYWtl", 401),
        ("Basic %%%", 401),
    ],
)
async def test_users_of_the_proxy_alone_may_pass(header: str | None, status: int) -> None:
    listeners = Listeners(echo, lambda: lambda user, word: (user, word) == ("user", "fake"))
    listeners.listen((port := unused_port(),))
    headers = {"authorization": header} if header else {}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/", headers=headers)
    listeners.close()
    assert answer.status_code == status


async def test_a_port_that_is_taken_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    one, other = Listeners(echo, lambda: None), Listeners(echo, lambda: None)
    port = unused_port()
    one.listen((port,))
    with caplog.at_level(logging.WARNING):
        other.listen((port,))
    assert f"port {port} cannot be used" in caplog.text
    one.close()
    other.close()
