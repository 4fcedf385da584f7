"""Logins through a real mitmdump: tokens that end, are refused, rotate, or do not come."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import (
    AccountsOfTest,
    accounts_of,
    ask,
    chats,
    leaks,
    log_of,
    now_ms,
    served,
    wait_until,
)
from tests.e2e.clients import Way, error_of, final, header
from tests.e2e.conftest import StartProxy
from tests.e2e.proxy import Proxy
from tests.e2e.wire import Wire
from tests.event_checker import check_events, events_of

BEATING = {"qwen_heartbeat_seconds": "1"}


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


def open_proxy(start_proxy: StartProxy, accounts: AccountsOfTest, **options: str) -> Proxy:
    return start_proxy(env=accounts.env, options=accounts.options | options)


def outcomes(simulator: SimulatorProcess) -> list[tuple[str | None, str]]:
    return [(redeem["account"], redeem["outcome"]) for redeem in simulator.redeems()]


def token(accounts: AccountsOfTest, name: str) -> str:
    stored = accounts.on_disk(name).access_token
    assert stored is not None
    return stored.get_secret_value()


@pytest.mark.parametrize("left_ms", [-60_000, 60_000], ids=["over", "over soon"])
def test_a_token_is_refreshed_before_it_is_over(
    start_proxy: StartProxy, accounts: AccountsOfTest, left_ms: int
) -> None:
    before = accounts.oauth("work") | {"expires": now_ms() + left_ms}
    accounts.write(before)
    with Way(open_proxy(start_proxy, accounts)).http() as http:
        for _ in range(2):
            final(ask(http))

    assert outcomes(accounts.simulator) == [("work", "issued")]
    after = accounts.on_disk("work")
    assert after.refresh_token
    assert after.refresh_token.get_secret_value() != before["refreshToken"]
    bearers = {header(received, "authorization") for received in chats(accounts.simulator)}
    assert bearers == {f"Bearer {token(accounts, 'work')}"}


def test_a_token_that_is_refused_is_refreshed_once_for_all_who_ask(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("work"))
    proxy = open_proxy(start_proxy, accounts)
    simulator.oauth("expire", account="work")
    with Wire(proxy, "h2") as wire:
        answers = [wire.ask() for _ in range(20)]
        for answer in answers:
            check_events(events_of(wire.finish(answer).body))

    assert outcomes(simulator) == [("work", "issued")]
    statuses = [received["status"] for received in chats(simulator)]
    assert statuses.count(200) == len(answers)
    assert statuses.count(401) <= len(answers)
    assert not accounts.on_disk("work").needs_login
    assert accounts.on_disk("work").cooldowns == {}


def test_a_login_that_is_over_is_marked_and_the_next_account_answers(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    gone = accounts.oauth("gone", expired=True)
    accounts.write(gone, accounts.key("key"))
    simulator.oauth("revoke", account="gone")
    proxy = open_proxy(start_proxy, accounts)
    with Way(proxy).http() as http:
        for _ in range(4):
            final(ask(http))

    assert served(simulator) == ["key"] * 4
    assert outcomes(simulator) == [("gone", "invalid_grant")]
    stored = accounts.on_disk("gone")
    assert stored.needs_login
    assert stored.refresh_token
    assert stored.refresh_token.get_secret_value() == gone["refreshToken"]
    assert leaks(log_of(proxy)) == set()


def test_the_only_login_is_over_and_the_client_is_told_what_to_do(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.oauth("gone", expired=True))
    accounts.simulator.oauth("revoke", account="gone")
    with Way(open_proxy(start_proxy, accounts)).http() as http:
        answers = [ask(http) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [400] * 3
    for answer in answers:
        assert "qwen-mitm login" in error_of(answer)["message"]
        assert leaks(answer.text) == set()
    assert len(outcomes(accounts.simulator)) == 1


def test_a_refresh_may_move_the_account_to_another_host(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("work"))
    proxy = open_proxy(start_proxy, accounts)
    simulator.oauth("terms", resource_url=f"https://localhost:{simulator.port}/compatible-mode/v1")
    with Way(proxy).http() as http:
        final(ask(http))
        simulator.oauth("expire", account="work")
        final(ask(http))

    first, refused, moved = chats(simulator)
    assert first["authority"] == refused["authority"] == f"127.0.0.1:{simulator.port}"
    assert moved["authority"] == f"localhost:{simulator.port}"
    assert moved["path"] == "/compatible-mode/v1/chat/completions"


def test_refused_straight_after_a_refresh_the_account_is_not_entitled(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("free"), accounts.key("key"))
    simulator.oauth("terms", free_tier_ended=True)
    proxy = open_proxy(start_proxy, accounts)
    with Way(proxy).http() as http:
        for _ in range(6):
            final(ask(http))

    assert served(simulator) == ["key"] * 6
    assert outcomes(simulator) == [("free", "issued")]
    assert sum(received["status"] == 401 for received in chats(simulator)) == 2
    wait_until(lambda: "*" in accounts.on_disk("free").cooldowns)
    assert accounts.on_disk("free").cooldowns["*"].reason == "not_entitled"


def test_two_proxies_with_one_file_redeem_once(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("work", expired=True))
    proxies = [open_proxy(start_proxy, accounts) for _ in range(2)]

    def use(proxy: Proxy) -> None:
        with Wire(proxy, "h2") as wire:
            for answer in [wire.ask() for _ in range(20)]:
                check_events(events_of(wire.finish(answer).body))

    with ThreadPoolExecutor(len(proxies)) as pool:
        list(pool.map(use, proxies))
    assert outcomes(simulator) == [("work", "issued")]
    assert served(simulator) == ["work"] * 40
    # And once more when the upstream refuses what both have.
    simulator.oauth("expire", account="work")
    with ThreadPoolExecutor(len(proxies)) as pool:
        list(pool.map(use, proxies))
    assert outcomes(simulator) == [("work", "issued")] * 2


def test_who_waits_for_the_only_token_gets_heartbeats(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("slow", expired=True))
    simulator.oauth("script", token=["gate-slow"])
    proxy = open_proxy(start_proxy, accounts, **BEATING)
    with Wire(proxy, "h2") as wire, Wire(proxy, "h1") as other:
        waiting, leaving = wire.ask(), other.ask()
        simulator.reached("slow")
        began = now_ms()
        wire.beats(waiting, 2)
        assert now_ms() - began < 7_000
        # Other hosts are served all the while.
        with Way(proxy).http() as http:
            assert http.get("http://mitm.it/").status_code == 200
        other.leave(leaving)
        simulator.release("slow")
        wire.finish(waiting)

    assert waiting.body.rstrip().endswith(b"data: [DONE]")
    assert served(simulator) == ["slow"]
    assert outcomes(simulator) == [("slow", "issued")]
    log_of(proxy)


def test_a_refresh_that_takes_long_leaves_its_requests_to_other_accounts(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("slow", expired=True), accounts.key("quick"))
    simulator.oauth("script", token=["gate-slow"])
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, "h2") as wire:
        answers = [wire.ask() for _ in range(10)]
        wire.wait(lambda: sum(answer.ended for answer in answers) == 5)
        assert [answer.status for answer in answers].count(None) == 5
        for answer in answers:
            check_events(events_of(wire.finish(answer).body))
        assert served(simulator) == ["quick"] * 10
        simulator.release("slow")

        def both_answer() -> bool:
            wire.finish(wire.ask())
            return "slow" in served(simulator)

        wait_until(both_answer)
    assert outcomes(simulator) == [("slow", "issued")]


def test_a_token_server_that_hangs_does_not_stop_a_token_that_still_works(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.oauth("work") | {"expires": now_ms() + 60_000})
    simulator.oauth("script", token=["hold-never"])
    proxy = open_proxy(start_proxy, accounts)
    with Way(proxy).http() as http:
        for _ in range(5):
            final(ask(http))
    assert served(simulator) == ["work"] * 5
    simulator.release("never")
    log_of(proxy)


def test_a_token_server_that_fails_costs_no_login(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    faults = ["500", "drop", "html", "rate-limit", "lost"]
    accounts.write(*(accounts.oauth(f, expired=True) for f in faults), accounts.key("key"))
    simulator.oauth("script", token=[{"behaviour": f, "bearer": f} for f in faults])
    proxy = open_proxy(start_proxy, accounts, qwen_rotation_strategy="sequential")
    with Way(proxy).http() as http:
        final(ask(http))
    assert served(simulator) == ["key"]
    for fault in faults:
        assert f"account {fault}: transient" in proxy.log
        assert not accounts.on_disk(fault).needs_login
    assert leaks(log_of(proxy)) == set()
