import pytest

from qwen_mitm.web_chat.errors import (
    ChainBroken,
    CredentialsBlocked,
    CredentialsExpired,
    NotAccepted,
    ProtocolChanged,
    RateLimited,
    Unavailable,
    UnknownModel,
    WebChatError,
    refusal_in,
    refused,
)
from tests.web_chat.pieces import refusal

NOW = 1_790_000_000_000
HOUR = 3_600_000
PAGE = b"<!doctype html><html><script>aliyun_waf</script></html>"
JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html"}


def error_in(body: bytes) -> WebChatError:
    found = refusal_in(body)
    assert found is not None
    return found


def test_a_limit_with_hours_cools_the_account_that_long() -> None:
    verdict = error_in(refusal("RateLimited", "slow down", num=4)).verdict(NOW)
    assert (verdict.kind, verdict.until, verdict.scope) == ("window", NOW + 4 * HOUR, "account")


@pytest.mark.parametrize("num", [0, -3, None, "x"])
def test_a_limit_without_usable_hours_is_a_burst(num: object) -> None:
    verdict = error_in(refusal("RateLimited", "slow down", num=num)).verdict(NOW)
    assert (verdict.kind, verdict.until) == ("burst", None)


def test_a_limit_of_absurd_length_is_capped() -> None:
    verdict = error_in(refusal("RateLimited", num=1e18)).verdict(NOW)
    assert verdict.until is not None
    assert verdict.until - NOW < 32 * 24 * HOUR


def test_the_limit_of_a_day_lasts_until_its_end_in_china() -> None:
    words = "You have reached the upper limit for today's usage."
    verdict = error_in(refusal("Forbidden", words)).verdict(NOW)
    assert verdict.kind == "window"
    assert verdict.until is not None
    assert 0 < verdict.until - NOW <= 24 * HOUR
    assert (verdict.until + 8 * HOUR) % (24 * HOUR) == 0


@pytest.mark.parametrize(
    ("code", "details", "kind", "verdict"),
    [
        ("Bad_Request", "", ProtocolChanged, "transient"),
        ("", "Invalid input chat parent_id X is not exist.", ChainBroken, "transient"),
        ("Not_Found", "The chat does not exist: chat c-1 is not exist", ChainBroken, "transient"),
        ("Not_Found", "Model qwen9 not found", UnknownModel, "model"),
        ("Unauthorized", "", CredentialsExpired, "not_entitled"),
        ("", "token has expired", CredentialsExpired, "not_entitled"),
        ("FAIL_SYS_USER_VALIDATE", "", CredentialsBlocked, "not_entitled"),
        ("invalid", "Range of input length should be [1, 5]", NotAccepted, "client_fault"),
        ("data_inspection_failed", "", NotAccepted, "client_fault"),
        ("internal_error", "oops", Unavailable, "transient"),
    ],
)
def test_the_sites_words_tell_what_is_wrong(
    code: str, details: str, kind: type[WebChatError], verdict: str
) -> None:
    error = error_in(refusal(code, details))
    assert type(error) is kind
    assert error.verdict(NOW).kind == verdict


@pytest.mark.parametrize("status", [200, 401, 403, 405, 429, 503])
def test_a_page_of_the_firewall_means_blocked_credentials_whatever_its_status(status: int) -> None:
    error = refused(status, HTML, PAGE)
    assert isinstance(error, CredentialsBlocked)
    assert "blocked" in error.message
    assert "qwen-mitm login --provider web-chat" in error.message


def test_a_page_is_known_without_its_content_type() -> None:
    assert isinstance(refused(404, {}, b"\n <HTML><body>hm</body>"), CredentialsBlocked)


def test_a_redirection_to_a_captcha_means_the_same() -> None:
    headers = {"location": "https://chat.qwen.ai/_____tmd_____/punish?x5secdata=1"}
    assert isinstance(refused(302, headers, b""), CredentialsBlocked)
    assert isinstance(refused(302, {"location": "/elsewhere"}, b""), ProtocolChanged)


def test_a_redirection_to_the_login_means_expired_credentials() -> None:
    headers = {"location": "https://chat.qwen.ai/auth?redirect=%2F"}
    assert isinstance(refused(302, headers, b""), CredentialsExpired)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_the_credentials_asks_for_new_ones(status: int) -> None:
    error = refused(status, JSON, b"{}")
    assert isinstance(error, CredentialsExpired)
    assert "login" in error.message


def test_a_gateway_that_gave_up_is_passing() -> None:
    error = refused(504, HTML, b"<html><h1>504 Gateway Time-out</h1></html>")
    assert isinstance(error, Unavailable)
    assert (error.status, error.verdict(NOW).kind) == (504, "transient")


def test_a_429_is_a_limit_also_without_words() -> None:
    assert isinstance(refused(429, {}, b""), RateLimited)
    told = refused(429, JSON, refusal("RateLimited", num=2))
    assert told.verdict(NOW).until == NOW + 2 * HOUR


def test_an_answer_is_no_refusal() -> None:
    assert refusal_in(b'{"success":true,"data":{"id":"c"}}') is None
    assert refusal_in(b"hello") is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"ret":["FAIL_SYS_USER_VALIDATE","RGV587_ERROR::SM::x"],"data":{"url":"https://h/punish"}}',
        b'{"ret":["RGV587_ERROR::SM::x"]}',
        b'{"rgv587_flag":"sm","url":"https://chat.qwen.ai:443//_____tmd_____/punish?x5secdata=1"}',
    ],
)
def test_a_captcha_in_json_means_blocked_credentials(body: bytes) -> None:
    assert isinstance(error_in(body), CredentialsBlocked)
    assert refusal_in(b'{"ret":["SUCCESS::ok"],"data":{"id":"c"}}') is None


@pytest.mark.parametrize(
    "words",
    ["the input exceeds the context window: too many tokens", "upper limit of the context length"],
)
def test_a_conversation_that_is_too_long_pauses_no_account(words: str) -> None:
    error = error_in(refusal("invalid", words))
    assert isinstance(error, NotAccepted)
    assert error.code == "context_length_exceeded"
    assert isinstance(error_in(refusal("RateLimited", words)), RateLimited)


@pytest.mark.parametrize(
    "body",
    [
        b'{"success":false,"data":"token has expired"}',
        b'{"success":false,"message":"token has expired"}',
        b'{"success":false,"code":"Unauthorized","data":{}}',
        b'{"code":"Unauthorized","message":"token has expired"}',
    ],
)
def test_reasons_are_read_wherever_they_stand(body: bytes) -> None:
    assert isinstance(error_in(body), CredentialsExpired)


@pytest.mark.parametrize("num", ["1e400", "1" + "0" * 400, '"inf"', "true"])
def test_hours_that_are_no_number_are_none(num: str) -> None:
    body = b'{"success":false,"data":{"code":"RateLimited","num":%s}}' % num.encode()
    error = error_in(body)
    assert isinstance(error, RateLimited)
    assert error.hours is None


@pytest.mark.parametrize("words", ["This chat doesn't exist", "The conversation has been deleted"])
def test_a_chat_that_was_deleted_is_known_by_other_words_too(words: str) -> None:
    assert isinstance(error_in(refusal("Bad_Request", words)), ChainBroken)
