from typing import get_args

import pytest

from qwen_mitm.accounts.exhausted import QuotaSpent, UsageLimitReached
from qwen_mitm.errors import (
    BridgeError,
    InvalidRequest,
    NoUsableAccount,
    ProxyStopped,
    TranslationFault,
    Unauthorized,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from qwen_mitm.observing.faults import ADVICE, FaultClass, of_attempt, of_turn
from qwen_mitm.reports import Fault, Try
from tests.observing.turns import a_turn


def upstream(status: int, message: str = "no", code: str | None = None) -> UpstreamRefused:
    return UpstreamRefused(message, status=status, type="error", code=code)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageLimitReached("all", resets_at=0), "accounts_limited"),
        (QuotaSpent("all"), "accounts_limited"),
        (NoUsableAccount("none"), "no_account"),
        (TranslationFault("bug"), "bug"),
        (UpstreamUnreachable("gone"), "unreachable"),
        (UpstreamTimeout("silent"), "timeout"),
        (ProxyStopped(), "proxy_stopped"),
        (InvalidRequest("'input' is missing"), "request_refused"),
        (upstream(401), "key_refused"),
        (upstream(403), "key_refused"),
        (upstream(429), "rate_limit"),
        (upstream(429, "hour allocated quota exceeded"), "quota"),
        (upstream(400, code="context_length_exceeded"), "context_too_long"),
        (upstream(404, code="model_not_found"), "model_unknown"),
        (upstream(400), "request_refused"),
        (upstream(500), "upstream_error"),
        (upstream(529), "upstream_error"),
    ],
)
def test_what_the_client_got_has_a_class(error: BridgeError, kind: str) -> None:
    fault = Fault(message=error.message, status=error.status, type=error.type, code=error.code)
    assert of_turn(a_turn("plan", outcome="refused", fault=fault)) == kind


def test_a_client_without_the_local_key_is_not_taken_for_an_account_without_one() -> None:
    error = Unauthorized("no")
    fault = Fault(message=error.message, status=error.status, type=error.type, code=error.code)
    assert of_turn(a_turn(outcome="refused", fault=fault)) == "local_key"


@pytest.mark.parametrize("outcome", ["completed", "incomplete"])
def test_an_answer_is_no_failure(outcome: str) -> None:
    assert of_turn(a_turn("plan", outcome=outcome)) is None


def test_a_stream_that_broke_is_told_from_one_whose_client_left() -> None:
    assert of_turn(a_turn("plan", outcome="failed")) == "answer_failed"
    assert of_turn(a_turn("plan", outcome="broken off")) == "client_left"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (None, "unreachable"),
        (200, "answer_failed"),
        (401, "key_refused"),
        (429, "rate_limit"),
        (503, "upstream_error"),
    ],
)
def test_an_attempt_has_a_class(status: int | None, kind: str) -> None:
    assert of_attempt(Try(account="plan", status=status, failure=None)) == kind


def test_every_class_is_explained_and_says_what_to_do() -> None:
    assert set(ADVICE) == set(get_args(FaultClass.__value__))
    assert all(advice.explanation and advice.to_do for advice in ADVICE.values())
