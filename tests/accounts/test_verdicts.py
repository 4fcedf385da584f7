import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import ALL_MODELS, Cooldown
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.resets import HOUR, MINUTE, SECOND
from qwen_mitm.accounts.verdicts import (
    LONGEST_MODEL,
    MOST_COOLDOWNS,
    OK,
    Verdict,
    VerdictKind,
    apply,
)

NOW = 1795176000 * SECOND
MODEL = "qwen3-coder-plus"
KEY = Account(name="work", api_key=SecretStr("fake-1"))
BURST = Verdict("burst", scope="model")


def until(account: Account, key: str = MODEL) -> int:
    end = account.cooldowns[key].until
    assert end is not None
    return end


def test_a_cooldown_counts_for_its_scope() -> None:
    limited = apply(KEY, Verdict("burst", NOW + MINUTE, "slow down", "model"), MODEL, NOW)
    assert not limited.is_usable(MODEL, NOW)
    assert limited.is_usable("other", NOW)
    assert limited.cooldowns[MODEL].message == "slow down"

    spent = apply(KEY, Verdict("spent"), MODEL, NOW)
    assert not spent.is_usable("other", NOW)


@pytest.mark.parametrize("kind", ["client_fault", "needs_refresh", "ok"])
def test_what_is_no_failure_changes_nothing(kind: VerdictKind) -> None:
    assert apply(KEY, Verdict(kind), MODEL, NOW) is KEY


def test_waits_double_while_re_probes_fail_and_start_again_after_success() -> None:
    account, now, waits = KEY, NOW, []
    for _ in range(12):
        account = apply(account, BURST, MODEL, now, sent_at=now)
        waits.append((until(account) - now) // SECOND)
        now = until(account) + 10
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900]

    account = apply(account, OK, MODEL, now)
    assert account.cooldowns == {}
    assert until(apply(account, BURST, MODEL, now, sent_at=now)) == now + 5 * SECOND


def test_a_failure_long_ago_does_not_make_the_wait_longer() -> None:
    account = apply(KEY, BURST, MODEL, NOW)
    later = NOW + HOUR
    assert until(apply(account, BURST, MODEL, later, sent_at=later)) == later + 5 * SECOND


def test_a_storm_of_late_failures_is_one_failure() -> None:
    account = apply(KEY, BURST, MODEL, NOW, sent_at=NOW - SECOND)
    for delay in range(0, 900, 10):
        assert apply(account, BURST, MODEL, NOW + delay, sent_at=NOW - 5) is account


def test_a_late_burst_does_not_shorten_a_window() -> None:
    window = Verdict("window", NOW + HOUR)
    account = apply(KEY, window, MODEL, NOW)
    late = apply(account, Verdict("burst", NOW + SECOND), MODEL, NOW + 10, sent_at=NOW - 10)
    assert late is account


def test_a_re_probe_tells_the_news_even_if_the_cooldown_gets_shorter() -> None:
    account = apply(KEY, Verdict("window", NOW + 9 * HOUR), MODEL, NOW)
    later = NOW + HOUR
    again = apply(account, Verdict("window", later + HOUR), MODEL, later, sent_at=later - SECOND)
    assert again.cooldowns[ALL_MODELS].until == later + HOUR
    assert again.cooldowns[ALL_MODELS].since == later


def test_what_began_before_a_cooldown_does_not_end_it_by_success() -> None:
    account = apply(KEY, Verdict("window", NOW + HOUR), MODEL, NOW)
    assert apply(account, OK, MODEL, NOW + 10, sent_at=NOW - 10) is account
    assert apply(account, OK, MODEL, NOW + 10) is account


def test_what_began_after_it_does() -> None:
    account = apply(KEY, Verdict("spent"), MODEL, NOW)
    assert apply(account, OK, MODEL, NOW + 20, sent_at=NOW + 10).cooldowns == {}


def test_success_with_one_model_says_nothing_of_another() -> None:
    account = apply(KEY, Verdict("model", scope="model"), "other", NOW)
    assert apply(account, OK, MODEL, NOW + 20, sent_at=NOW + 10) is account


def test_success_ends_the_plugins_own_limit() -> None:
    account = KEY.model_copy(update={"rate_limit_reset_at": NOW + HOUR, "last_used": NOW - HOUR})
    assert apply(account, OK, MODEL, NOW, sent_at=NOW - 10).rate_limit_reset_at is None


@pytest.mark.parametrize("verdict", [BURST, OK, Verdict("spent")])
def test_nothing_enables_a_disabled_account(verdict: Verdict) -> None:
    disabled = KEY.model_copy(update={"disabled": True, "needs_login": True})
    after = apply(disabled, verdict, MODEL, NOW)
    assert after.disabled
    assert after.needs_login


def test_a_model_named_like_all_models_cools_nothing() -> None:
    assert apply(KEY, Verdict("model", scope="model"), ALL_MODELS, NOW) is KEY


def test_an_overlong_name_of_a_model_is_not_kept() -> None:
    missing = Verdict("model", scope="model")
    assert apply(KEY, missing, "m" * (LONGEST_MODEL + 1), NOW) is KEY
    assert apply(KEY, missing, "m" * LONGEST_MODEL, NOW).cooldowns
    assert apply(KEY, Verdict("spent"), "m" * 1000, NOW).cooldowns.keys() == {ALL_MODELS}


def test_clients_cannot_fill_the_file_with_names_of_models() -> None:
    account = apply(KEY, Verdict("window", NOW + HOUR), MODEL, NOW)
    for number in range(100):
        name = f"invented-{number}"
        account = apply(account, Verdict("model", scope="model"), name, NOW + number)
    assert len(account.cooldowns) == MOST_COOLDOWNS
    assert ALL_MODELS in account.cooldowns
    assert "invented-99" in account.cooldowns


KINDS: list[VerdictKind] = ["ok", "client_fault", "burst", "window", "spent", "transient"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.none() | st.integers(-HOUR, 100 * HOUR),
            st.integers(0, 10 * MINUTE),
            st.none() | st.integers(0, MINUTE),
        ),
        max_size=20,
    )
)
def test_no_burst_or_fault_parks_an_account_for_long(
    events: list[tuple[VerdictKind, int | None, int, int | None]],
) -> None:
    account, now = KEY, NOW
    for kind, length, gap, took in events:
        end = None if length is None else now + length
        sent_at = None if took is None else now - took
        account = apply(account, Verdict(kind, end), MODEL, now, sent_at=sent_at)
        found = account.cooldowns.get(ALL_MODELS)
        if isinstance(found, Cooldown) and found.reason in ("burst", "transient"):
            assert found.until is not None
            assert found.until <= now + 15 * MINUTE
        now += gap
