import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import Cooldown, CooldownReason
from qwen_mitm.accounts.exhausted import AccountState, Exhausted, exhausted_error, state_of
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.resets import DAY, HOUR, MINUTE, SECOND

# Friday 2026-11-20 12:00 UTC.
NOW = 1795176000 * SECOND

# clients.md, rule 2: what makes OpenCode repeat a request, in the message or anywhere in the body.
TRIGGERS = re.compile(
    r"429|500|502|503|504|524|rate.?limit|too many requests|overloaded|service unavailable"
    r"|internal.?error|server.?error|terminated|fetch failed|network.?error|upstream.?connect"
    r"|connection.?(error|refused|lost)|econn|request timed out|timed? ?out|retry your request"
    r"|resource.?exhausted|try again later|try again in|currently at capacity",
    re.IGNORECASE,
)
REASONS: list[CooldownReason] = [
    "burst",
    "window",
    "concurrency",
    "spent",
    "not_entitled",
    "wrong_host",
    "model",
    "transient",
]
NAMES = [
    "account-429",
    "500502503504524",
    "rate limit",
    "rate-limit@example.test",
    "Too Many Requests",
    "overloaded",
    "service unavailable",
    "internal error",
    "server_error",
    "terminated",
    "fetch failed",
    "network error",
    "upstream connect",
    "connection refused",
    "ECONNREFUSED",
    "request timed out",
    "timeout",
    "retry your request",
    "resource exhausted",
    "try again later",
    "currently at capacity",
    "42\u200b9",
    "n" * 500,
    "try\nagain in",
    "4429291500",
]


def state(name: str, reason: CooldownReason, until: int | None) -> AccountState:
    account = Account(name=name, api_key=SecretStr("fake-key"))
    return state_of(account, Cooldown(until=until, reason=reason, message="429", since=NOW))


def exhausted(*cooldowns: tuple[str, CooldownReason, int | None]) -> Exhausted:
    ends = [until for _, _, until in cooldowns if until is not None]
    return Exhausted(
        retry_at=min(ends, default=None),
        states=tuple(state(*each) for each in cooldowns),
        reasons=frozenset(reason for _, reason, _ in cooldowns),
    )


def test_a_limit_that_is_over_soon_is_a_429_that_codex_and_the_sdks_wait_for() -> None:
    found = exhausted(("work", "burst", NOW + 11_500), ("home", "window", NOW + 2 * DAY))
    error = exhausted_error(found, max_wait_s=300, now=NOW)
    assert error.status == 429
    assert error.headers == {"retry-after": "12"}
    body = json.loads(error.body())["error"]
    assert body["type"] == "usage_limit_reached"
    assert body["code"] == "rate_limit_exceeded"
    assert body["resets_at"] == NOW // SECOND + 12
    assert "Try again in 12s." in body["message"]
    assert "work: paused by its host until 12:00 UTC" in body["message"]
    assert "home: quota of the period used up until 22 November, 12:00 UTC" in body["message"]


def test_a_wait_beyond_the_maximum_is_not_passed_on() -> None:
    found = exhausted(("work", "burst", NOW + 6 * MINUTE))
    error = exhausted_error(found, max_wait_s=300, now=NOW)
    assert error.status == 429
    assert error.type == "usage_limit_reached"
    assert error.headers == {}
    assert json.loads(error.body())["error"]["resets_at"] == (NOW + 6 * MINUTE) // SECOND
    # Codex reads it out of the message when the answer had begun.
    assert "in 360s" not in error.message
    assert "The first is back at 12:06 UTC." in error.message


def test_a_quota_that_is_spent_for_the_day_is_a_400_with_clean_words() -> None:
    found = exhausted(("work", "window", NOW + 2 * DAY), ("home", "spent", None))
    error = exhausted_error(found, max_wait_s=300, now=NOW)
    assert error.status == 400
    assert error.headers == {}
    assert error.code == "quota_exceeded"
    assert error.message == (
        "The quota of every account is used up. The first is back on 22 November, 12:00 UTC. "
        "work: quota of the period used up until 22 November, 12:00 UTC; "
        "home: quota used up or bill unpaid."
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("until", [None, NOW + 5 * HOUR + 24 * MINUTE, NOW + 3 * DAY, NOW + 9])
def test_no_fatal_answer_has_a_word_or_number_that_makes_opencode_try_again(
    name: str, reason: CooldownReason, until: int | None
) -> None:
    found = exhausted((name, reason, until), (name, "spent", until))
    error = exhausted_error(found, max_wait_s=300, now=NOW, model=name)
    if error.status != 429:
        assert not TRIGGERS.search(error.body().decode())


@pytest.mark.parametrize("minute", range(0, 24 * 60, 7))
def test_no_time_of_day_looks_like_a_status(minute: int) -> None:
    until = NOW + 3 * DAY + minute * MINUTE
    error = exhausted_error(exhausted(("a", "window", until)), max_wait_s=300, now=NOW)
    assert not TRIGGERS.search(error.body().decode())


@given(
    st.integers(0, 3600),
    st.lists(
        st.tuples(
            st.text(max_size=20),
            st.sampled_from(REASONS),
            st.none() | st.integers(NOW, NOW + 40 * DAY),
        ),
        max_size=12,
    ),
)
def test_retry_after_is_never_longer_than_the_maximum(
    max_wait_s: int, cooldowns: list[tuple[str, CooldownReason, int | None]]
) -> None:
    error = exhausted_error(exhausted(*cooldowns), max_wait_s=max_wait_s, now=NOW)
    assert int(error.headers.get("retry-after", "0")) <= max_wait_s
    assert error.status in (400, 404, 429)
    if error.status != 429:
        assert not TRIGGERS.search(error.body().decode())


def test_accounts_that_need_somebodys_help_are_named_with_what_to_do() -> None:
    out = Account(name="old", access_token=SecretStr("fake"), needs_login=True)
    off = Account(name="off", api_key=SecretStr("fake"), disabled=True)
    found = Exhausted(
        retry_at=None,
        states=(state_of(out, None), state_of(off, None), state("plan", "wrong_host", None)),
        reasons=frozenset({"out", "wrong_host"}),
    )
    error = exhausted_error(found, max_wait_s=300, now=NOW)
    assert (error.status, error.code) == (400, "no_usable_account")
    assert "old: needs login; off: disabled; plan: key and host do not match" in error.message
    assert not TRIGGERS.search(error.body().decode())


def test_a_model_that_no_account_has_is_a_404_that_all_clients_show() -> None:
    found = exhausted(("one", "model", None), ("two", "model", None))
    error = exhausted_error(found, max_wait_s=300, now=NOW, model="qwen9")
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "'qwen9'" in error.message


def test_a_thousand_accounts_make_no_long_message() -> None:
    many = [(f"account-{n}", "spent", None) for n in range(1000)]
    error = exhausted_error(exhausted(*many), max_wait_s=300, now=NOW)  # type: ignore[arg-type]
    assert len(error.message) < 600
    assert error.message.endswith("and others.")


def test_the_upstreams_words_and_tokens_stay_out() -> None:
    error = exhausted_error(exhausted(("work", "spent", None)), max_wait_s=300, now=NOW)
    assert "fake-key" not in error.message
    assert "429" not in error.message
