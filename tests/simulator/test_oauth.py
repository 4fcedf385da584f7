from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import Simulator, SimulatorProcess
from qwen_mitm.simulator.oauth import DEVICE, DEVICE_GRANT, TOKEN

from .chat import body

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
CLIENT = {"client_id": "client-for-tests"}
ASKING = CLIENT | {
    "scope": "openid",
    "code_challenge": CHALLENGE.decode(),
    "code_challenge_method": "S256",
}


@pytest.fixture
async def web(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.url, trust_env=False) as client:
        yield client


async def ask_device(web: httpx.AsyncClient) -> dict[str, Any]:
    answer = await web.post(DEVICE, data=ASKING)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


async def poll(web: httpx.AsyncClient, device_code: str, **fields: str) -> httpx.Response:
    grant = {"grant_type": DEVICE_GRANT, "device_code": device_code, "code_verifier": VERIFIER}
    return await web.post(TOKEN, data=CLIENT | grant | fields)


async def refresh(web: httpx.AsyncClient, token: str) -> httpx.Response:
    grant = {"grant_type": "refresh_token", "refresh_token": token}
    return await web.post(TOKEN, data=CLIENT | grant)


async def complete(web: httpx.AsyncClient, bearer: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}"}
    return await web.post("/v1/chat/completions", json=body(), headers=headers)


def outcomes(simulator: Simulator) -> list[str]:
    return [redeem.outcome for redeem in simulator.oauth.logins.redeems]


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


async def test_an_approved_code_gives_tokens_that_work(
    simulator: Simulator, web: httpx.AsyncClient
) -> None:
    device = await ask_device(web)
    assert said(await poll(web, device["device_code"])) == (400, "authorization_pending")
    simulator.oauth.logins.decide(device["user_code"], "ada")
    tokens = (await poll(web, device["device_code"])).json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["resource_url"] == "portal.qwen.ai"
    assert (await complete(web, tokens["access_token"])).status_code == 200
    assert simulator.requests[-1].account == "ada"
    assert (await complete(web, "another-token")).status_code == 401


async def test_a_code_is_good_once(simulator: Simulator, web: httpx.AsyncClient) -> None:
    device = await ask_device(web)
    simulator.oauth.logins.decide(device["user_code"], "ada")
    assert (await poll(web, device["device_code"])).status_code == 200
    assert (await poll(web, device["device_code"])).status_code == 401


async def test_the_page_approves(simulator: Simulator, web: httpx.AsyncClient) -> None:
    device = await ask_device(web)
    page = device["verification_uri_complete"]
    assert page.startswith(device["verification_uri"])
    assert (await web.get(page)).status_code == 200
    assert (await poll(web, device["device_code"])).status_code == 200
    assert (await web.get(page)).status_code == 404


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"code_verifier": "w" * 43}, (400, "invalid_grant")),
        ({"code_verifier": "short"}, (400, "invalid_grant")),
        ({"device_code": "never-issued"}, (401, "invalid_grant")),
        ({"client_id": "another-client"}, (401, "invalid_grant")),
        ({"code_verifier": ""}, (400, "invalid_request")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
    ],
)
async def test_a_poll_that_proves_nothing_gets_nothing(
    simulator: Simulator,
    web: httpx.AsyncClient,
    fields: dict[str, str],
    expected: tuple[int, str],
) -> None:
    device = await ask_device(web)
    simulator.oauth.logins.decide(device["user_code"], "ada")
    answer = await poll(web, **({"device_code": device["device_code"]} | fields))
    assert said(answer) == expected


async def test_only_forms_with_s256_are_read(web: httpx.AsyncClient) -> None:
    assert said(await web.post(DEVICE, json=ASKING)) == (400, "invalid_request")
    plain = ASKING | {"code_challenge_method": "plain"}
    assert said(await web.post(DEVICE, data=plain)) == (400, "invalid_request")


async def test_a_code_is_denied_or_expires(simulator: Simulator, web: httpx.AsyncClient) -> None:
    device = await ask_device(web)
    simulator.oauth.logins.decide(device["user_code"], None)
    assert said(await poll(web, device["device_code"])) == (400, "access_denied")
    simulator.oauth.logins.terms.device_expires_in = 0
    device = await ask_device(web)
    assert said(await poll(web, device["device_code"])) == (400, "expired_token")


async def test_a_refresh_replaces_both_tokens(simulator: Simulator, web: httpx.AsyncClient) -> None:
    login = simulator.oauth.logins.login("ada")
    old = login.access_token
    simulator.oauth.logins.terms.resource_url = "elsewhere.example"
    tokens = (await refresh(web, login.refresh_token)).json()
    assert tokens["resource_url"] == "elsewhere.example"
    assert tokens["refresh_token"] not in login.spent
    assert (await complete(web, tokens["access_token"])).status_code == 200
    refused = await complete(web, old)
    assert refused.status_code == 401
    assert refused.json()["error"]["message"] == "invalid access token or token expired"


async def test_reusing_a_spent_token_revokes_the_family(
    simulator: Simulator, web: httpx.AsyncClient
) -> None:
    other = simulator.oauth.logins.login("bob")
    spent = simulator.oauth.logins.login("ada").refresh_token
    tokens = (await refresh(web, spent)).json()
    assert said(await refresh(web, spent)) == (400, "invalid_grant")
    assert said(await refresh(web, tokens["refresh_token"])) == (400, "invalid_grant")
    assert (await complete(web, tokens["access_token"])).status_code == 401
    assert (await complete(web, other.access_token)).status_code == 200
    redeems = simulator.oauth.logins.redeems
    assert [redeem.account for redeem in redeems] == ["ada", "ada", "ada"]
    assert outcomes(simulator) == ["issued", "invalid_grant", "invalid_grant"]


async def test_an_answer_without_refresh_token_leaves_the_old_one_good(
    simulator: Simulator, web: httpx.AsyncClient
) -> None:
    kept = simulator.oauth.logins.login("ada").refresh_token
    simulator.oauth.logins.terms.refresh_token = "none"
    assert "refresh_token" not in (await refresh(web, kept)).json()
    simulator.oauth.logins.terms.refresh_token = "null"
    assert (await refresh(web, kept)).json()["refresh_token"] is None


async def test_access_tokens_expire(simulator: Simulator, web: httpx.AsyncClient) -> None:
    simulator.oauth.logins.terms.expires_in = 0
    login = simulator.oauth.logins.login("ada")
    assert (await complete(web, login.access_token)).status_code == 401


async def test_after_the_free_tier_logins_go_on_and_completions_do_not(
    simulator: Simulator, web: httpx.AsyncClient
) -> None:
    simulator.oauth.logins.terms.free_tier_ended = True
    login = simulator.oauth.logins.login("ada")
    simulator.state.accounts["plan-key"] = "plan"
    tokens = await refresh(web, login.refresh_token)
    assert tokens.status_code == 200
    assert (await complete(web, tokens.json()["access_token"])).status_code == 401
    assert (await complete(web, "plan-key")).status_code == 200


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("slow-down", 400),
        ("slow-down-429", 429),
        ("rate-limit", 429),
        ("expired-401", 401),
        ("invalid-grant-401", 401),
        ("error-200", 200),
        ("html", 200),
        ("html-400", 400),
        ("broken-json", 200),
        ("array", 200),
        ("503", 503),
    ],
)
async def test_faults_come_on_demand_and_spend_nothing(
    simulator: Simulator, web: httpx.AsyncClient, behaviour: str, status: int
) -> None:
    login = simulator.oauth.logins.login("ada")
    simulator.oauth.script(token=[behaviour])
    assert (await refresh(web, login.refresh_token)).status_code == status
    assert outcomes(simulator) == [behaviour]
    assert (await refresh(web, login.refresh_token)).status_code == 200


async def test_a_line_for_one_account_leaves_the_others_alone(
    simulator: Simulator, web: httpx.AsyncClient
) -> None:
    ada, bob = (simulator.oauth.logins.login(name) for name in ("ada", "bob"))
    simulator.oauth.script(token=[{"behaviour": "500", "bearer": "bob", "times": None}])
    assert (await refresh(web, ada.refresh_token)).status_code == 200
    assert (await refresh(web, bob.refresh_token)).status_code == 500
    assert (await refresh(web, bob.refresh_token)).status_code == 500


async def test_an_answer_can_be_spelt_out(simulator: Simulator, web: httpx.AsyncClient) -> None:
    simulator.oauth.script(device=[{"status": 418, "body": "no"}])
    answer = await web.post(DEVICE, data=ASKING)
    assert (answer.status_code, answer.text) == (418, "no")


async def test_a_client_that_goes_away_at_the_gate_before_spent_nothing(
    simulator: Simulator, web: httpx.AsyncClient
) -> None:
    login = simulator.oauth.logins.login("ada")
    simulator.oauth.script(token=["hold-a"])
    waiting = asyncio.ensure_future(refresh(web, login.refresh_token))
    await simulator.reached("a")
    waiting.cancel()
    await simulator.closed(1)
    assert outcomes(simulator) == ["open"]
    assert not login.spent


@pytest.mark.parametrize(("behaviour", "spent"), [("drop", False), ("lost", True)])
async def test_a_lost_answer_has_spent_the_token_and_a_dropped_request_has_not(
    simulator: Simulator, web: httpx.AsyncClient, behaviour: str, spent: bool
) -> None:
    login = simulator.oauth.logins.login("ada")
    simulator.oauth.script(token=[behaviour])
    with pytest.raises(httpx.TransportError):
        await refresh(web, login.refresh_token)
    assert bool(login.spent) is spent


async def test_it_can_be_driven_from_outside(simulator: Simulator, web: httpx.AsyncClient) -> None:
    async def control(what: str, **document: Any) -> httpx.Response:
        return await web.post(f"/_simulator/oauth/{what}", json=document)

    login = (await control("login", account="ada", refresh_token="given")).json()
    assert login["refresh_token"] == "given"
    assert (await complete(web, login["access_token"])).status_code == 200
    await control("expire", account="ada")
    assert (await complete(web, login["access_token"])).status_code == 401
    await control("terms", expires_in=7)
    await control("script", token=["gate-b"])
    await web.post("/_simulator/release/b")
    assert (await refresh(web, "given")).json()["expires_in"] == 7
    device = await ask_device(web)
    await control("deny", user_code=device["user_code"])
    assert said(await poll(web, device["device_code"])) == (400, "access_denied")
    await control("approve", user_code=device["user_code"], account="ada")
    assert (await poll(web, device["device_code"])).status_code == 200
    await control("revoke", account="ada")
    listed = (await web.get("/_simulator/oauth/redeems")).json()["redeems"]
    assert [redeem["outcome"] for redeem in listed] == ["issued", "access_denied", "issued"]
    await web.post("/_simulator/reset")
    assert (await complete(web, "anything")).status_code == 200


@pytest.mark.parametrize(
    ("what", "document"),
    [
        ("terms", {"expires": 1}),
        ("script", {"token": ["no-such-thing"]}),
        ("approve", {"user_code": "XXXX-XXXX"}),
        ("login", {}),
        ("dance", {}),
    ],
)
async def test_nonsense_from_outside_is_refused(
    web: httpx.AsyncClient, what: str, document: dict[str, Any]
) -> None:
    answer = await web.post(f"/_simulator/oauth/{what}", json=document)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_process_is_driven_the_same_way() -> None:
    with SimulatorProcess("--plain") as process, httpx.Client(trust_env=False) as web:
        tokens = process.oauth("login", account="ada")
        grant = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        assert web.post(process.url + TOKEN, data=CLIENT | grant).status_code == 200
        (redeem,) = process.redeems()
        assert (redeem["grant"], redeem["account"]) == ("refresh_token", "ada")
        assert redeem["outcome"] == "issued"
        page = web.post(process.url + DEVICE, data=ASKING).json()["verification_uri"]
        assert page == f"{process.url}/authorize"
        with pytest.raises(httpx.HTTPStatusError):
            process.oauth("dance")
