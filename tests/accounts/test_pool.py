from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import ALL_MODELS, Cooldown, CooldownReason
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.pool import LAST_RESORT_AFTER, PROBE_PATIENCE, Pool, Strategy
from qwen_mitm.accounts.resets import DAY, HOUR, MINUTE, SECOND
from qwen_mitm.accounts.roster import REPROBE_AFTER
from qwen_mitm.accounts.verdicts import OK, Verdict

NOW = 1795176000 * SECOND
MODEL = "qwen3-coder-plus"
STRATEGIES: list[Strategy] = ["round-robin", "sequential", "sticky"]
BURST = Verdict("burst", scope="model")
ALL_REASONS: list[CooldownReason] = [
    "burst",
    "window",
    "concurrency",
    "spent",
    "not_entitled",
    "wrong_host",
    "model",
    "transient",
]


def account(name: str, **changes: object) -> Account:
    made = Account(name=name, api_key=SecretStr(f"fake-{name}"))
    return made.model_copy(update=changes)


def accounts(count: int) -> tuple[Account, ...]:
    return tuple(account(f"a{number}") for number in range(count))


def cooling(
    name: str, reason: CooldownReason, until: int | None, since: int = NOW, key: str = ALL_MODELS
) -> Account:
    cooldown = Cooldown(until=until, reason=reason, since=since)
    return account(name, cooldowns={key: cooldown})


def choose(
    pool: Pool,
    among: Sequence[Account],
    strategy: Strategy = "round-robin",
    *,
    conversation: str | None = None,
    tried: Sequence[str] = (),
    now: int = NOW,
    model: str = MODEL,
) -> str | None:
    found = pool.pick(
        among, strategy=strategy, model=model, conversation=conversation, tried=tried, now=now
    )
    return found.name if found else None


def fail(
    pool: Pool, name: str | None, verdict: Verdict = BURST, now: int = NOW, model: str = MODEL
) -> None:
    assert name is not None
    pool.note(name, model, verdict, now, sent_at=now - 1)


# Round robin ------------------------------------------------------------------------------------


def test_each_request_takes_the_next_account() -> None:
    pool, three = Pool(), accounts(3)
    assert [choose(pool, three) for _ in range(7)] == ["a0", "a1", "a2", "a0", "a1", "a2", "a0"]


def test_the_rotation_may_begin_anywhere() -> None:
    assert choose(Pool(start=5), accounts(3)) == "a2"


def test_a_failure_counts_for_models_that_nobody_asked_for_since_the_file_changed() -> None:
    pool = Pool()
    before, after = accounts(3), accounts(2)
    choose(pool, before, model="other")
    choose(pool, before)
    choose(pool, after)

    fail(pool, "a1", Verdict("window", NOW + HOUR))

    assert choose(pool, after) == choose(pool, after, model="other") == "a0"


def test_nobody_is_chosen_when_the_last_account_was_removed() -> None:
    pool = Pool()
    assert choose(pool, accounts(2)) is not None
    assert [choose(pool, (), strategy) for strategy in STRATEGIES] == [None] * 3


def test_the_rotation_goes_on_when_the_file_changed() -> None:
    pool = Pool()
    assert [choose(pool, accounts(3)) for _ in range(5)] == ["a0", "a1", "a2", "a0", "a1"]
    left = accounts(3)[1:]
    assert choose(pool, left) == "a2"


def test_retries_of_a_failing_account_do_not_all_go_to_its_neighbour() -> None:
    pool, five = Pool(), accounts(5)
    chosen: Counter[str | None] = Counter()
    for _ in range(50):
        first = choose(pool, five)
        if first == "a1":
            first = choose(pool, five, tried=["a1"])
        chosen[first] += 1
    assert max(chosen.values()) - min(chosen.values()) <= 2


@given(st.integers(1, 30), st.integers(0, 100))
def test_a_round_visits_every_account_once(count: int, start: int) -> None:
    pool, everybody = Pool(start=start), accounts(count)
    assert {choose(pool, everybody) for _ in range(count)} == {a.name for a in everybody}


# Sequential -------------------------------------------------------------------------------------


def test_one_account_is_used_until_it_is_limited() -> None:
    pool, three = Pool(start=2), accounts(3)
    assert {choose(pool, three, "sequential") for _ in range(5)} == {"a0"}
    fail(pool, "a0")
    assert {choose(pool, three, "sequential") for _ in range(5)} == {"a1"}
    back = NOW + MINUTE
    assert choose(pool, three, "sequential", now=back) == "a1"
    fail(pool, "a1", now=back)
    assert choose(pool, three, "sequential", now=back) == "a2"


def test_a_request_that_tried_the_current_account_does_not_move_the_others() -> None:
    pool, three = Pool(), accounts(3)
    assert choose(pool, three, "sequential") == "a0"
    assert choose(pool, three, "sequential", tried=["a0"]) == "a1"
    assert choose(pool, three, "sequential") == "a0"


# Sticky -----------------------------------------------------------------------------------------


def test_a_conversation_stays_and_new_ones_go_round() -> None:
    pool, three = Pool(), accounts(3)
    homes = {c: choose(pool, three, "sticky", conversation=c) for c in "xyz"}
    assert set(homes.values()) == {"a0", "a1", "a2"}
    for _ in range(3):
        for conversation, home in homes.items():
            assert choose(pool, three, "sticky", conversation=conversation) == home


def test_the_conversations_of_a_failed_account_spread_over_the_others() -> None:
    pool, five = Pool(), accounts(5)
    homes = {f"c{n}": choose(pool, five, "sticky", conversation=f"c{n}") for n in range(100)}
    fail(pool, "a0")
    moved: Counter[str | None] = Counter()
    for conversation, home in homes.items():
        now_at = choose(pool, five, "sticky", conversation=conversation)
        if home == "a0":
            moved[now_at] += 1
        else:
            assert now_at == home
    assert moved == {"a1": 5, "a2": 5, "a3": 5, "a4": 5}


def test_an_account_that_comes_back_is_neither_stormed_nor_starved() -> None:
    pool, five = Pool(), accounts(5)
    fail(pool, choose(pool, five))
    for number in range(200):
        choose(pool, five, "sticky", conversation=f"old-{number}")
    back = NOW + MINUTE
    new = [choose(pool, five, "sticky", conversation=f"new-{n}", now=back) for n in range(100)]
    assert 20 <= new.count("a0") <= 40


def test_a_conversation_that_moved_stays_where_it_went() -> None:
    pool, three = Pool(), accounts(3)
    first = choose(pool, three, "sticky", conversation="x")
    fail(pool, first)
    second = choose(pool, three, "sticky", conversation="x", tried=[first or ""])
    assert second != first
    assert choose(pool, three, "sticky", conversation="x", now=NOW + HOUR - 1) == second


def test_pools_of_several_processes_settle_a_conversation_at_the_same_account() -> None:
    five = accounts(5)
    pools = [Pool(start=start, has_twins=True) for start in range(3)]
    homes = {}
    for conversation in (f"c{n}" for n in range(200)):
        (homes[conversation],) = {
            choose(pool, five, "sticky", conversation=conversation) for pool in pools
        }

    assert len(homes) == 200
    assert min(Counter(homes.values()).values()) > 200 / 5 / 2

    left = [one for one in five if one.name != "a0"]
    for conversation, home in homes.items():
        (now_at,) = {choose(pool, left, "sticky", conversation=conversation) for pool in pools}
        assert now_at == home or home == "a0"


def test_without_a_conversation_sticky_goes_round() -> None:
    pool, three = Pool(), accounts(3)
    assert {choose(pool, three, "sticky") for _ in range(3)} == {"a0", "a1", "a2"}


# Cooldowns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_limited_account_is_passed_over_until_its_reset(strategy: Strategy) -> None:
    pool = Pool()
    two = (cooling("limited", "window", NOW + MINUTE), account("free"))
    assert {choose(pool, two, strategy) for _ in range(4)} == {"free"}
    later = {choose(pool, two, strategy, conversation=c, now=NOW + MINUTE) for c in "abcd"}
    assert "limited" in later or strategy == "sequential"


def test_a_cooldown_for_one_model_leaves_the_others() -> None:
    pool, two = Pool(), accounts(2)
    fail(pool, choose(pool, two))
    assert {choose(pool, two) for _ in range(3)} == {"a1"}
    assert {choose(pool, two, model="other") for _ in range(2)} == {"a0", "a1"}


def test_what_was_noted_counts_at_once_and_the_disk_learns_it() -> None:
    pool, two = Pool(), accounts(2)
    choose(pool, two)
    change = pool.note("a0", MODEL, Verdict("spent"), NOW, sent_at=NOW - 5)
    assert {choose(pool, two) for _ in range(3)} == {"a1"}
    assert change is not None
    assert change(two[0]).cooldowns[ALL_MODELS].reason == "spent"


def test_what_passes_soon_is_not_written_down() -> None:
    pool, two = Pool(), accounts(2)
    choose(pool, two)
    assert pool.note("a0", MODEL, Verdict("transient"), NOW) is None
    assert {choose(pool, two) for _ in range(3)} == {"a1"}
    assert pool.note("a1", MODEL, OK, NOW) is None
    assert pool.note("nobody", MODEL, BURST, NOW) is None


def test_a_storm_of_failures_is_written_down_once() -> None:
    pool, two = Pool(), accounts(2)
    choose(pool, two)
    changes = [pool.note("a0", MODEL, BURST, NOW + n, sent_at=NOW - 1) for n in range(200)]
    assert [change is not None for change in changes] == [True] + [False] * 199


def test_a_cooldown_that_was_cleared_on_disk_is_over() -> None:
    pool, before = Pool(), accounts(2)
    choose(pool, before)
    change = pool.note("a0", MODEL, Verdict("spent"), NOW)
    assert change is not None
    written = (change(before[0]), before[1])
    assert {choose(pool, written) for _ in range(3)} == {"a1"}
    assert {choose(pool, accounts(2)) for _ in range(2)} == {"a0", "a1"}


def test_what_is_not_yet_on_disk_survives_another_change_of_the_file() -> None:
    pool = Pool()
    choose(pool, accounts(2))
    pool.note("a0", MODEL, Verdict("spent"), NOW)
    assert {choose(pool, accounts(2)) for _ in range(3)} == {"a1"}
    pool.forget("a0", NOW)
    assert {choose(pool, accounts(2)) for _ in range(2)} == {"a0", "a1"}


def test_an_account_that_can_be_refreshed_is_chosen() -> None:
    login = Account(name="login", refresh_token=SecretStr("fake"))
    assert choose(Pool(), (login,)) == "login"


# Re-probes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["window", "spent", "model", "not_entitled", "wrong_host"])
def test_a_long_cooldown_is_re_probed_by_one_request_at_a_time(reason: CooldownReason) -> None:
    pool = Pool()
    three = (cooling("limited", reason, None), *accounts(2))
    due = NOW + REPROBE_AFTER[reason]
    assert "limited" not in {choose(pool, three, now=due - 1) for _ in range(5)}
    chosen = [choose(pool, three, now=due + n) for n in range(6)]
    assert chosen.count("limited") == 1

    pool.note("limited", MODEL, Verdict(reason), due + 10)
    assert "limited" not in {choose(pool, three, now=due + HOUR // 4) for _ in range(5)}
    assert "limited" in {choose(pool, three, now=2 * due - NOW + 10) for _ in range(5)}


def test_a_re_probe_that_works_ends_the_cooldown() -> None:
    pool = Pool()
    two = (cooling("limited", "window", NOW + 3 * DAY), account("free"))
    due = NOW + REPROBE_AFTER["window"]
    assert choose(pool, two, now=due) == "limited"
    change = pool.note("limited", MODEL, OK, due + 500)
    assert change is not None
    assert change(two[0]).cooldowns == {}
    assert {choose(pool, two, now=due + 600) for _ in range(2)} == {"limited", "free"}


def test_a_re_probe_that_nobody_reports_is_repeated() -> None:
    pool = Pool()
    two = (cooling("limited", "spent", None), account("free"))
    due = NOW + REPROBE_AFTER["spent"]
    assert choose(pool, two, now=due) == "limited"
    assert choose(pool, two, now=due + PROBE_PATIENCE - 1) == "free"
    assert choose(pool, two, now=due + PROBE_PATIENCE) == "limited"


def test_a_request_that_failed_already_does_not_re_probe_while_others_are_free() -> None:
    pool = Pool()
    three = (cooling("limited", "spent", None), *accounts(2))
    due = NOW + REPROBE_AFTER["spent"]
    assert choose(pool, three, tried=["a0"], now=due) == "a1"


def test_three_days_in_the_plugins_file_are_re_probed_after_minutes() -> None:
    pool = Pool()
    limited = account("limited", rate_limit_reset_at=NOW + 3 * DAY, last_used=NOW)
    two = (limited, account("free"))
    assert {choose(pool, two, now=NOW + MINUTE) for _ in range(3)} == {"free"}
    assert choose(pool, two, now=NOW + REPROBE_AFTER["burst"]) == "limited"


def test_a_healthy_conversation_is_never_used_for_a_re_probe() -> None:
    pool = Pool()
    two = (cooling("limited", "spent", None), account("free"))
    assert choose(pool, two, "sticky", conversation="x") == "free"
    due = NOW + HOUR - 1
    assert choose(pool, two, "sticky", conversation="x", now=due) == "free"
    assert choose(pool, two, "sticky", conversation="x", now=due + HOUR // 2) == "free"
    assert choose(pool, two, "sticky", conversation="y", now=due + HOUR // 2) == "limited"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_when_nobody_is_free_those_that_are_due_are_asked(strategy: Strategy) -> None:
    pool = Pool()
    two = (cooling("week", "window", NOW + 3 * DAY), cooling("month", "window", NOW + 9 * DAY))
    assert choose(pool, two, strategy) is None
    due = NOW + REPROBE_AFTER["window"]
    assert choose(pool, two, strategy, now=due) == "week"
    assert choose(pool, two, strategy, now=due) == "month"
    assert choose(pool, two, strategy, now=due) is None


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    pool = Pool()
    two = (cooling("early", "window", NOW + DAY, since=NOW), cooling("late", "window", NOW + DAY))
    assert choose(pool, two) is None
    assert choose(pool, two, now=NOW - DAY) == "early"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_hosts_that_merely_fail_are_asked_when_nobody_else_is_free(strategy: Strategy) -> None:
    pool = Pool()
    three = (
        cooling("limited", "burst", NOW + MINUTE),
        cooling("later", "transient", NOW + 2 * MINUTE),
        cooling("sooner", "transient", NOW + MINUTE),
    )
    for _ in range(2):
        assert choose(pool, three, strategy) == "sooner"
        assert choose(pool, three, strategy, tried=["sooner"]) == "later"
        assert choose(pool, three, strategy, tried=["sooner", "later"]) is None


# The only candidate -----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("reason", ALL_REASONS)
def test_the_only_candidate_is_never_locked_out(strategy: Strategy, reason: CooldownReason) -> None:
    pool = Pool()
    some = (
        account("off", disabled=True),
        account("out", needs_login=True),
        cooling("only", reason, NOW + DAY),
    )
    for _ in range(3):
        assert choose(pool, some, strategy, conversation="x") == "only"
        fail(pool, "only", Verdict(reason))
    assert choose(pool, some, strategy, tried=["only"]) is None


def test_accounts_that_nothing_brings_back_are_no_candidates() -> None:
    some = (cooling("dead", "not_entitled", None), cooling("limited", "burst", NOW + MINUTE))
    assert choose(Pool(), some) == "limited"


def test_when_no_account_lives_each_is_asked_now_and_then() -> None:
    pool = Pool()
    two = (cooling("one", "wrong_host", None), cooling("two", "not_entitled", None))
    assert choose(pool, two) is None
    later = NOW + LAST_RESORT_AFTER
    assert choose(pool, two, now=later) == "one"
    assert choose(pool, two, now=later, tried=["one"]) == "two"
    assert choose(pool, two, now=later) is None


# Exhaustion -------------------------------------------------------------------------------------


def test_exhaustion_names_every_account_and_the_first_that_comes_back() -> None:
    pool = Pool()
    some = (
        cooling("week", "window", NOW + DAY),
        cooling("dead", "wrong_host", None),
        account("off", disabled=True),
        cooling("soon", "burst", NOW + MINUTE),
    )
    exhausted = pool.exhausted(some, MODEL, NOW)
    assert exhausted.retry_at == NOW + MINUTE
    assert [(state.name, state.until) for state in exhausted.states] == [
        ("week", NOW + DAY),
        ("dead", None),
        ("off", None),
        ("soon", NOW + MINUTE),
    ]
    assert exhausted.reasons == {"window", "wrong_host", "out", "burst"}


# Together ---------------------------------------------------------------------------------------

FAILURES = [
    Verdict("burst", NOW + MINUTE, scope="model"),
    Verdict("window", NOW + DAY),
    Verdict("spent"),
    Verdict("not_entitled"),
    Verdict("transient"),
    Verdict("transient", scope="model"),
    Verdict("concurrency"),
]


@given(
    st.sampled_from(STRATEGIES),
    st.lists(st.sampled_from(FAILURES), min_size=1, max_size=6),
    st.integers(0, 6),
    st.lists(st.integers(0, 8), min_size=1, max_size=40),
    st.integers(0, 10 * MINUTE),
)
def test_every_request_is_answered_while_one_account_is_healthy(
    strategy: Strategy, failures: list[Verdict], healthy: int, batches: list[int], gap: int
) -> None:
    everybody = accounts(len(failures) + 1)
    well = everybody[healthy % len(everybody)].name
    sick = dict(zip([a.name for a in everybody if a.name != well], failures, strict=True))
    pool, now, served = Pool(), NOW, 0
    for size in batches:
        waiting: list[tuple[int, list[str]]] = [(number, []) for number in range(size)]
        while waiting:
            sent = [
                (number, tried, choose(pool, everybody, strategy, conversation=str(number),
                    tried=tried, now=now))
                for number, tried in waiting
            ]  # fmt: skip
            waiting = []
            for number, tried, name in sent:
                assert name is not None
                verdict = sick.get(name, OK)
                pool.note(name, MODEL, verdict, now + 20, sent_at=now)
                if verdict is OK:
                    served += 1
                else:
                    waiting.append((number, [*tried, name]))
            now += 20
        now += gap
    assert served == sum(batches)


# Properties -------------------------------------------------------------------------------------

cooldowns = st.none() | st.builds(
    Cooldown,
    until=st.none() | st.integers(NOW - DAY, NOW + 9 * DAY),
    reason=st.sampled_from(ALL_REASONS),
    since=st.integers(NOW - 2 * DAY, NOW + HOUR),
)


@st.composite
def any_accounts(draw: st.DrawFn) -> tuple[Account, ...]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        cooldown = draw(cooldowns)
        key = draw(st.sampled_from([ALL_MODELS, MODEL, "other"]))
        made.append(
            account(
                f"a{number}",
                disabled=draw(st.booleans()),
                needs_login=draw(st.booleans()),
                cooldowns={} if cooldown is None else {key: cooldown},
            )
        )
    return tuple(made)


names = st.lists(st.sampled_from([f"a{number}" for number in range(8)]), max_size=5)
steps = st.lists(
    st.tuples(
        st.sampled_from(STRATEGIES),
        st.sampled_from([None, "x", "y"]),
        names,
        st.integers(-HOUR, 2 * HOUR),
        st.sampled_from(["none", "ok", "burst", "window", "spent", "client_fault", "not_entitled"]),
    ),
    min_size=1,
    max_size=15,
)


@given(any_accounts(), steps)
def test_pick_never_gives_what_cannot_be_used_and_always_what_can(
    everybody: tuple[Account, ...],
    plan: list[tuple[Strategy, str | None, list[str], int, str]],
) -> None:
    pool, now = Pool(), NOW
    for strategy, conversation, tried, gap, outcome in plan:
        now += gap
        found = pool.pick(
            everybody,
            strategy=strategy,
            model=MODEL,
            conversation=conversation,
            tried=tried,
            now=now,
        )
        if found is not None:
            assert not found.disabled
            assert not found.needs_login
            assert found.name not in tried
        views = [pool.view(a) for a in everybody if a.name not in tried]
        if any(view.is_usable(MODEL, now) for view in views):
            assert found is not None
        usable = [a for a in everybody if not a.disabled and not a.needs_login]
        if len(usable) == 1 and usable[0].name not in tried:
            assert found is not None
            assert found.name == usable[0].name
        if found is not None and outcome != "none":
            verdict = Verdict(outcome)  # type: ignore[arg-type]  # drawn from the literals
            pool.note(found.name, MODEL, verdict, now, sent_at=now - 1)


@given(st.integers(2, 10), st.lists(st.integers(0, 30), max_size=60))
def test_a_conversation_never_leaves_a_healthy_account(count: int, turns: list[int]) -> None:
    pool, everybody = Pool(), accounts(count)
    homes: dict[int, str | None] = {}
    for turn in turns:
        chosen = choose(pool, everybody, "sticky", conversation=str(turn))
        assert homes.setdefault(turn, chosen) == chosen
