from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from qwen_mitm.oauth.messages import Answer, Refusal, Tokens, Unreadable, read

ODD_LIFETIMES: list[object] = [None, -1, "soon", True, {}, 1e300, "nan"]
SUCCESS = {"access_token": "access-for-tests", "refresh_token": "refresh-for-tests"}


def answer(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def tokens(**fields: Any) -> Tokens:
    result = read(answer(SUCCESS | fields))
    assert isinstance(result, Tokens)
    return result


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3600.9, 3600),
        (0, 0),
        *[(odd, None) for odd in ODD_LIFETIMES],
    ],
)
def test_a_lifetime_is_read_leniently(value: object, expected: int | None) -> None:
    assert tokens(expires_in=value).expires_in == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("portal.qwen.ai", "portal.qwen.ai"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        *((odd, None) for odd in (None, "", 7, "ftp://x", "https://", "a b", "x\n", "x:p", "[")),
    ],
)
def test_a_resource_url_that_leads_nowhere_is_left_out(value: object, expected: str | None) -> None:
    assert tokens(resource_url=value).resource_url == expected


def test_what_is_odd_beside_the_tokens_does_not_cost_them() -> None:
    odd = tokens(expires_in={}, resource_url=[], refresh_token=7, scope=None, token_type=1)
    assert odd.access_token == SecretStr("access-for-tests")
    assert odd.refresh_token is None


def test_fields_leave_alone_what_was_not_sent() -> None:
    assert Tokens(access_token=SecretStr("a")).fields(now=5) == {
        "access_token": SecretStr("a"),
        "expires": None,
        "needs_login": False,
    }


@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_error_counts_whatever_the_status(status: int) -> None:
    document = {"error": "slow_down", "error_description": "Later.", **SUCCESS}
    assert read(answer(document, status)) == Refusal(status, "slow_down", "Later.")


def test_an_error_that_is_not_oauths_keeps_its_message() -> None:
    assert read(answer({"code": "Throttled", "message": "Too fast"}, 400)) == Refusal(
        400, "", "Too fast"
    )
    assert read(answer({"error": {"message": "no"}}, 500)) == Refusal(500, "", "")


@pytest.mark.parametrize(
    ("body", "page"),
    [(b"", False), (b"[]", False), (b"null", False), (b"{", False), (b"\n <html>", True)],
)
def test_anything_else_is_unreadable(body: bytes, page: bool) -> None:
    assert read(Answer(200, body)) == Unreadable(200, page)
    assert read(Answer(400, body)) == Unreadable(400, page)


def test_words_are_short_printable_and_without_secrets() -> None:
    refusal = Refusal(400, "invalid_grant", "bad refresh-for-tests\x1b[2J" + "x" * 900)
    words = refusal.words([SecretStr("refresh-for-tests")])
    assert words.startswith("invalid_grant: bad … [2Jx")
    assert len(words) == 200
    assert Refusal(403, "", "").words() == "HTTP 403"
