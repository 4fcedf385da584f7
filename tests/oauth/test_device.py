from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from pydantic import SecretStr

from qwen_mitm.oauth.device import Flow, Prompt, Step, Wait, account_of, challenge, log_in
from qwen_mitm.oauth.errors import LoginDenied, LoginExpired, LoginFailed
from qwen_mitm.oauth.messages import Answer, Fault, Post, Reply, Tokens

BASE = "https://login.example"
DEVICE = {
    "device_code": "device-for-tests",
    "user_code": "ABCD-EFGH",
    "verification_uri": f"{BASE}/authorize",
    "verification_uri_complete": f"{BASE}/authorize?user_code=ABCD-EFGH",
    "expires_in": 900,
    "interval": 2,
}
TOKENS = {
    "access_token": "access-for-tests",
    "refresh_token": "refresh-for-tests",
    "token_type": "Bearer",
    "expires_in": 3600,
    "resource_url": "portal.qwen.ai",
}
# RFC 7636, appendix B.
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def said(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def refused(error: str, status: int = 400) -> Answer:
    return said({"error": error}, status)


class Login:
    """A login whose clock moves with the waits that it asks for."""

    def __init__(self, device: Reply | None = None) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.tokens: Tokens | None = None
        self.flow: Flow = log_in(
            BASE,
            "client-for-tests",
            verifier=SecretStr(VERIFIER),
            request_id="request-1",
            clock=lambda: self.now,
        )
        self.asked = self._post(next(self.flow))
        self.prompt: Step | None = None
        self.step: Step = self.asked
        if device is not None:
            self.prompt = self.flow.send(device)

    @staticmethod
    def _post(step: Step) -> Post:
        assert isinstance(step, Post)
        return step

    def poll(self, *replies: Reply) -> Post:
        """Wait for each poll and answer it."""
        step: Step = self.flow.send(None) if self.prompt else next(self.flow)
        self.prompt = None
        for number, reply in enumerate(replies):
            if number:
                step = self.step
            assert isinstance(step, Wait)
            self.waits.append(step.seconds)
            self.now += step.seconds
            post = self._post(self.flow.send(None))
            try:
                self.step = self.flow.send(reply)
            except StopIteration as end:
                self.tokens = end.value
        return post


def started(**changes: Any) -> Login:
    return Login(said(DEVICE | changes))


def test_the_challenge_is_that_of_the_rfc() -> None:
    assert challenge(SecretStr(VERIFIER)) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_first_request_asks_for_a_code() -> None:
    asked = Login().asked
    assert asked.url == f"{BASE}/api/v1/oauth2/device/code"
    assert asked.headers == {"x-request-id": "request-1"}
    assert asked.form == {
        "client_id": "client-for-tests",
        "scope": "openid profile email model.completion",
        "code_challenge": challenge(SecretStr(VERIFIER)),
        "code_challenge_method": "S256",
    }


def test_the_person_is_shown_the_code_and_the_address_that_has_it() -> None:
    assert started().prompt == Prompt(
        "ABCD-EFGH", f"{BASE}/authorize", f"{BASE}/authorize?user_code=ABCD-EFGH", 900
    )
    short = started(verification_uri_complete=None).prompt
    assert isinstance(short, Prompt)
    assert short.address == f"{BASE}/authorize"


def test_a_pending_login_is_polled_at_the_interval_until_there_are_tokens() -> None:
    login = started()
    pending = refused("authorization_pending")
    post = login.poll(pending, pending, said(TOKENS))
    assert login.waits == [2, 2, 2]
    assert post.url == f"{BASE}/api/v1/oauth2/token"
    assert post.form == {
        "client_id": "client-for-tests",
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": SecretStr("device-for-tests"),
        "code_verifier": SecretStr(VERIFIER),
    }
    assert login.tokens == Tokens.model_validate(TOKENS)


def test_without_an_interval_it_is_five_seconds() -> None:
    login = started(interval=None)
    login.poll(said(TOKENS))
    assert login.waits == [5]


@pytest.mark.parametrize("status", [400, 429, 200])
def test_slow_down_counts_whatever_its_status_and_stays(status: int) -> None:
    login = started()
    slow_down = refused("slow_down", status)
    login.poll(slow_down, slow_down, refused("authorization_pending"), said(TOKENS))
    assert login.waits == [2, 7, 12, 12]


@pytest.mark.parametrize("answer", [refused("rate_limit", 429), Answer(429, b"<html>")])
def test_any_other_429_slows_down_too(answer: Answer) -> None:
    login = started()
    login.poll(answer, said(TOKENS))
    assert login.waits == [2, 7]


@pytest.mark.parametrize(
    "answer",
    [
        refused("expired_token"),
        refused("expired_token", 200),
        said({"error": "invalid_grant", "error_description": "Device code expired"}, 401),
        Answer(401, b""),
    ],
)
def test_an_expired_code_ends_it(answer: Answer) -> None:
    with pytest.raises(LoginExpired, match="Start the login again"):
        started().poll(answer)


def test_denial_ends_it() -> None:
    with pytest.raises(LoginDenied):
        started().poll(refused("access_denied"))


def test_nobody_confirming_in_time_ends_it_without_another_poll() -> None:
    login = started(expires_in=5)
    pending = refused("authorization_pending")
    login.poll(pending, pending)
    assert login.step == Wait(1)
    login.now += 1
    with pytest.raises(LoginExpired):
        login.flow.send(None)


def test_an_unknown_error_ends_it_in_the_servers_words() -> None:
    answer = said({"error": "invalid_client", "error_description": "No such\nclient."}, 400)
    with pytest.raises(LoginFailed, match=r"refused the login: invalid_client: No such client\.$"):
        started().poll(answer)


def test_a_server_that_quotes_a_secret_is_not_repeated() -> None:
    quoting = f"bad device-for-tests and {VERIFIER}"
    with pytest.raises(LoginFailed) as caught:
        started().poll(said({"error": "invalid_request", "error_description": quoting}, 400))
    assert "device-for-tests" not in caught.value.message
    assert VERIFIER not in caught.value.message


@pytest.mark.parametrize(
    "fault",
    [
        Fault("connection refused"),
        Answer(200, b"<!DOCTYPE html>"),
        Answer(400, b"<!DOCTYPE html>"),
        Answer(200, b'{"access_token": "sim-'),
        Answer(200, b"[]"),
        said({"access_token": ""}),
        refused("server_error", 503),
    ],
)
def test_a_passing_fault_is_polled_through_more_and_more_slowly(fault: Reply) -> None:
    login = started()
    login.poll(fault, fault, refused("authorization_pending"), said(TOKENS))
    assert login.waits == [2, 4, 8, 2]
    assert login.tokens is not None


def test_a_fault_that_stays_ends_it_with_its_reason() -> None:
    with pytest.raises(LoginFailed, match="given up: connection refused"):
        started().poll(*[Fault("connection refused")] * 8)


@pytest.mark.parametrize("token", [{"refresh_token": None}, {"refresh_token": ""}])
def test_a_success_without_refresh_token_is_a_login_that_cannot_be_refreshed(
    token: dict[str, str | None],
) -> None:
    login = started()
    login.poll(said(TOKENS | token))
    assert login.tokens is not None
    account = account_of(login.tokens, "work", now=1000)
    assert account.refresh_token is None
    assert account.access_token == SecretStr("access-for-tests")


def test_the_tokens_make_an_account() -> None:
    account = account_of(Tokens.model_validate(TOKENS), "work", now=1000)
    assert (account.name, account.kind, account.added_at) == ("work", "oauth", 1000)
    assert account.refresh_token == SecretStr("refresh-for-tests")
    assert account.expires == 3_601_000
    assert account.endpoint("https://elsewhere.example/v1") == "https://portal.qwen.ai/v1"
    assert not account.needs_login


@pytest.mark.parametrize("field", ["access_token", "refresh_token"])
@pytest.mark.parametrize("token", ["bad\r\ntoken", "bad token", "bad-tökén"])
def test_a_token_that_does_not_fit_a_header_ends_the_login_without_being_shown(
    field: str, token: str
) -> None:
    tokens = Tokens.model_validate(TOKENS | {field: token})
    with pytest.raises(LoginFailed) as caught:
        account_of(tokens, "work", now=1000)
    assert caught.value.message == "The server sent a token that cannot be used."
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(secret in shown for secret in (token, repr(token)[1:-1], "ValidationError"))


def test_getting_a_code_is_tried_again_when_the_network_fails() -> None:
    login = Login()
    assert login.flow.send(Fault("no route")) == Wait(2)
    assert next(login.flow) == login.asked
    assert login.flow.send(Answer(502, b"<html>")) == Wait(2)
    next(login.flow)
    assert isinstance(login.flow.send(said(DEVICE)), Prompt)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refused("invalid_client", 401), "refused: invalid_client"),
        (refused("invalid_client", 200), "refused: invalid_client"),
        (Answer(404, b"<html>"), "404 with a web page"),
        (Answer(200, b"nothing"), "not JSON"),
        (said({"user_code": "ABCD"}), "no usable device_code"),
        (said(DEVICE | {"expires_in": -1}), "no usable expires_in"),
        (said(DEVICE | {"verification_uri": "file:///bin/sh"}), "no usable verification_uri"),
        (said(DEVICE | {"user_code": "\x1b[2J"}), "no usable user_code"),
    ],
)
def test_an_answer_without_a_usable_code_ends_it(answer: Answer, words: str) -> None:
    with pytest.raises(LoginFailed, match=words):
        Login(answer)


def test_no_secret_is_in_any_repr() -> None:
    login = started()
    post = login.poll(refused("authorization_pending"))
    shown = repr([post, said(TOKENS), Tokens.model_validate(TOKENS)])
    for secret in ("device-for-tests", VERIFIER, "access-for-tests", "refresh-for-tests"):
        assert secret not in shown
