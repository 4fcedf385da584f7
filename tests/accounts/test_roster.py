import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import ALL_MODELS, Cooldown
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.resets import DAY, HOUR, MINUTE
from qwen_mitm.accounts.roster import REPROBE_AFTER, Roster, Standing, standing

NOW = 1795176000000
MODEL = "qwen3-coder-plus"


def account(name: str, cooldown: Cooldown | None = None, **changes: object) -> Account:
    made = Account(name=name, api_key=SecretStr("fake"))
    cooldowns = {} if cooldown is None else {ALL_MODELS: cooldown}
    return made.model_copy(update={"cooldowns": cooldowns, **changes})


def roster(*accounts: Account, now: int = NOW) -> Roster:
    made = Roster(MODEL, lambda each, at: standing(each, MODEL, at))
    made.load(accounts, now)
    return made


WINDOW = Cooldown(until=NOW + DAY, reason="window", since=NOW)


@pytest.mark.parametrize(
    ("found", "now", "expected"),
    [
        (account("a"), NOW, Standing("free")),
        (account("a", disabled=True), NOW, Standing("out")),
        (account("a", WINDOW, disabled=True), NOW, Standing("out")),
        (account("a", WINDOW, needs_login=True), NOW, Standing("out")),
        (account("a", WINDOW), NOW, Standing("cooling", NOW + HOUR // 2, WINDOW)),
        (account("a", WINDOW), NOW + HOUR // 2, Standing("due", NOW + DAY, WINDOW)),
        (account("a", WINDOW), NOW + DAY, Standing("free")),
        (account("a", WINDOW), NOW - DAY, Standing("due", NOW + DAY, WINDOW)),
    ],
)
def test_a_standing_says_when_it_may_change(found: Account, now: int, expected: Standing) -> None:
    assert standing(found, MODEL, now) == expected


def test_an_account_that_is_being_probed_is_not_due() -> None:
    now = NOW + HOUR
    probed = standing(account("a", WINDOW), MODEL, now, probed_until=now + MINUTE)
    assert (probed.state, probed.changes_at) == ("cooling", now + MINUTE)


def test_accounts_become_free_by_themselves() -> None:
    soon = Cooldown(until=NOW + MINUTE, reason="burst", since=NOW)
    some = roster(account("a", soon), account("b"))
    assert some.next_free(()) == 1
    some.advance(NOW + MINUTE)
    assert some.next_free(()) == 0


cooldowns = st.none() | st.builds(
    Cooldown,
    until=st.none() | st.integers(NOW - HOUR, NOW + DAY),
    reason=st.sampled_from(sorted(REPROBE_AFTER)),
    since=st.integers(NOW - DAY, NOW),
)


@given(st.lists(cooldowns, min_size=1, max_size=6), st.lists(st.integers(0, 6 * HOUR), max_size=6))
def test_time_brings_it_where_a_fresh_look_would_be(
    each: list[Cooldown | None], gaps: list[int]
) -> None:
    everybody = [account(str(number), cooldown) for number, cooldown in enumerate(each)]
    some, now = roster(*everybody), NOW
    for gap in gaps:
        now += gap
        some.advance(now)
        fresh = roster(*everybody, now=now)
        assert [some.is_free(a.name) for a in everybody] == [
            fresh.is_free(a.name) for a in everybody
        ]
        assert some.next_due(()) == fresh.next_due(())
        assert (some.living, some.candidates) == (fresh.living, fresh.candidates)


def test_those_that_waiting_brings_back_are_probed_first() -> None:
    dead = Cooldown(until=None, reason="wrong_host", since=NOW - DAY)
    week = Cooldown(until=NOW + DAY, reason="window", since=NOW - DAY)
    some = roster(account("dead", dead), account("week", week))
    assert some.next_due(()) == 1
    assert some.next_due(("week",)) == 0
