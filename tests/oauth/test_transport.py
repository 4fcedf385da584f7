from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from qwen_mitm.oauth.device import Prompt, log_in, new_verifier
from qwen_mitm.oauth.errors import LoginDenied
from qwen_mitm.oauth.messages import DEVICE_PATH, TOKEN_PATH, Answer, Fault, Post, Reply, Tokens
from qwen_mitm.oauth.transport import drive, open_client, send, tls_context
from qwen_mitm.simulator import Simulator

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def secure() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


async def post(simulator: Simulator, path: str = TOKEN_PATH, patience: float = 5) -> Reply:
    def blocking() -> Reply:
        asked = Post(
            simulator.url + path,
            {"client_id": "client-for-tests", "refresh_token": SecretStr("token-for-tests")},
            {"x-request-id": "request-1"},
        )
        with open_client() as client:
            return send(client, asked, timeout=patience)

    return await asyncio.to_thread(blocking)


async def login(simulator: Simulator, account: str | None) -> tuple[Tokens, list[float]]:
    """A whole login, in which the person decides as soon as there is a code."""
    waits: list[float] = []

    def decide(prompt: Prompt) -> None:
        simulator.oauth.logins.decide(prompt.user_code, account)

    def blocking() -> Tokens:
        flow = log_in(
            simulator.url,
            "client-for-tests",
            verifier=new_verifier(),
            request_id="request-1",
            clock=lambda: 0.0,
        )
        with open_client() as client:
            return drive(flow, client, show=decide, sleep=waits.append)

    return await asyncio.to_thread(blocking), waits


async def test_a_login_gets_the_tokens_of_the_account(simulator: Simulator) -> None:
    simulator.oauth.script(token=["pending", "slow-down-429", "drop", "html"])
    tokens, waits = await login(simulator, "ada")
    family = simulator.oauth.logins.of("ada")
    assert tokens.access_token == SecretStr(family.access_token)
    assert tokens.refresh_token == SecretStr(family.refresh_token)
    assert waits == [5, 5, 10, 20, 40]


async def test_a_denied_login_says_so(simulator: Simulator) -> None:
    with pytest.raises(LoginDenied):
        await login(simulator, None)


async def test_a_form_is_sent_as_qwen_wants_it(simulator: Simulator) -> None:
    await post(simulator, DEVICE_PATH)
    (request,) = simulator.requests
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert request.header("accept") == "application/json"
    assert request.header("x-request-id") == "request-1"
    assert (request.header("user-agent") or "").startswith("qwen-mitm/")
    assert request.body == b"client_id=client-for-tests&refresh_token=token-for-tests"


async def test_an_unknown_authority_is_refused_unless_the_environment_names_it(
    secure: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = await post(secure)
    assert isinstance(refused, Fault)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.message
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_pem))
    assert isinstance(await post(secure), Answer)
    assert secure.requests[0].http_version == "1.1"


async def test_the_usual_authorities_stay_beside_those_of_the_environment(
    secure: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tls_context().cert_store_stats()["x509_ca"]
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_pem))
    assert usual > 50
    assert tls_context().cert_store_stats()["x509_ca"] == usual + 1


async def test_the_proxy_of_the_environment_is_used(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", simulator.url)
    form = {"client_id": "client-for-tests"}

    def blocking() -> Reply:
        with open_client() as client:
            return send(client, Post("http://chat.qwen.example/somewhere", form))

    assert await asyncio.to_thread(blocking) == Answer(404, b"")
    assert simulator.requests[0].authority == "chat.qwen.example"


async def test_a_redirect_is_not_followed(simulator: Simulator) -> None:
    elsewhere = {"location": f"{simulator.url}/elsewhere"}
    simulator.oauth.script(token=[{"status": 307, "headers": elsewhere, "body": ""}])
    assert await post(simulator) == Answer(307, b"")
    assert len(simulator.requests) == 1


async def test_an_answer_without_an_end_is_given_up(simulator: Simulator) -> None:
    simulator.oauth.script(token=[{"body": " " * 300_000}])
    assert await post(simulator) == Fault("the server's answer has no end")


async def test_an_answer_that_takes_too_long_is_given_up(simulator: Simulator) -> None:
    simulator.oauth.script(token=["late-0.05"])
    assert await post(simulator, patience=0.01) == Fault("no complete answer in 0.01 seconds")


async def test_a_dropped_connection_is_a_fault(simulator: Simulator) -> None:
    simulator.oauth.script(token=["drop"])
    fault = await post(simulator)
    assert isinstance(fault, Fault)
    assert fault.message.startswith("127.0.0.1 cannot be reached: ")
    assert "token-for-tests" not in fault.message


def test_nobody_listening_is_a_fault() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with httpx.Client(trust_env=False) as client:
            fault = send(client, Post(url, {}))
    assert isinstance(fault, Fault)
    assert "refused" in fault.message
