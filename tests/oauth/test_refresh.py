from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractContextManager
from typing import Any

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.files import AccountFileError
from qwen_mitm.accounts.model import Account, AccountFile, DayUsage
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.oauth.errors import NeedsLogin, RefreshFailed
from qwen_mitm.oauth.transport import open_client
from qwen_mitm.simulator import Simulator

from .logins import HOUR, NOW, Desk


async def test_a_token_that_is_good_costs_nothing(desk: Desk) -> None:
    account = desk.log_in(left=HOUR)
    assert await desk.refresher.fresh(account) is account
    assert desk.outcomes == []


async def test_an_api_key_is_left_as_it_is(desk: Desk) -> None:
    account = Account(name="plan", api_key=SecretStr("key-for-tests"))
    assert await desk.refresher.fresh(account, rejected_access_token=account.api_key) is account


async def test_an_expired_token_is_refreshed_and_stored(desk: Desk) -> None:
    account = desk.log_in(usage=DayUsage(date="2026-11-20", requests=3))
    desk.logins.terms.expires_in = 60
    fresh = await desk.refresher.fresh(account)
    assert fresh.access_token == desk.valid_token()
    assert fresh.expires == NOW + 60_000
    stored = desk.on_disk()
    assert stored.access_token == fresh.access_token
    assert stored.refresh_token == SecretStr(desk.logins.of("work").refresh_token)
    assert stored.usage == account.usage
    assert desk.outcomes == ["issued"]


async def test_a_token_is_refreshed_before_it_expires_only_when_that_is_wanted(desk: Desk) -> None:
    account = desk.log_in(left=299_000)
    desk.settings = desk.settings.model_copy(update={"proactive_refresh": False})
    assert await desk.refresher.fresh(account) is account
    desk.settings = desk.settings.model_copy(update={"proactive_refresh": True})
    assert (await desk.refresher.fresh(account)).access_token != account.access_token


async def test_a_token_that_lives_shorter_than_the_window_is_used_for_half_its_life(
    desk: Desk,
) -> None:
    account = desk.log_in()
    desk.logins.terms.expires_in = 60
    first = await desk.refresher.fresh(account)
    desk.now += 29_000
    assert await desk.refresher.fresh(first) is first
    desk.now += 2_000
    assert (await desk.refresher.fresh(first)).access_token != first.access_token
    assert desk.outcomes == ["issued", "issued"]


async def test_a_rejected_token_is_refreshed_however_long_it_had(desk: Desk) -> None:
    account = desk.log_in(left=HOUR)
    fresh = await desk.refresher.fresh(account, rejected_access_token=account.access_token)
    assert fresh.access_token == desk.valid_token()


async def test_fifty_calls_at_once_redeem_once(desk: Desk) -> None:
    account = desk.log_in()
    fresh = await asyncio.gather(*(desk.refresher.fresh(account) for _ in range(50)))
    assert {a.access_token and a.access_token.get_secret_value() for a in fresh} == {
        desk.logins.of("work").access_token
    }
    assert desk.outcomes == ["issued"]


class CountingStore(AccountStore):
    locked = 0

    def refresh_lock(self, name: str) -> AbstractContextManager[None]:
        self.locked += 1
        return super().refresh_lock(name)


async def test_calls_at_once_take_the_lock_once(desk: Desk) -> None:
    account = desk.log_in()
    store = CountingStore(desk.store.path)
    refresher = desk.another(store)
    await asyncio.gather(*(refresher.fresh(account) for _ in range(50)))
    assert store.locked == 1


async def test_accounts_are_refreshed_side_by_side(desk: Desk) -> None:
    accounts = [desk.log_in(name) for name in ("ada", "bob")]
    desk.simulator.oauth.script(token=["hold-both"] * 2)
    both = asyncio.gather(*(desk.refresher.fresh(account) for account in accounts))
    await desk.simulator.received(2)
    desk.simulator.release("both")
    assert [a.access_token for a in await both] == [desk.valid_token(n) for n in ("ada", "bob")]


async def test_a_lost_race_adopts_the_stored_token(desk: Desk) -> None:
    account = desk.log_in()
    theirs = await desk.another().fresh(account)
    ours = await desk.refresher.fresh(account, rejected_access_token=account.access_token)
    assert ours.access_token == theirs.access_token
    assert desk.outcomes == ["issued"]


async def test_who_waits_for_the_lock_adopts_too(desk: Desk, simulator: Simulator) -> None:
    account = desk.log_in()
    simulator.oauth.script(token=["hold-first"])
    both = asyncio.gather(*(r.fresh(account) for r in (desk.refresher, desk.another())))
    await simulator.reached("first")
    simulator.release("first")
    ours, theirs = await both
    assert ours.access_token == theirs.access_token == desk.valid_token()
    assert desk.outcomes == ["issued"]


async def test_a_token_that_was_rejected_after_the_refresh_is_not_adopted(desk: Desk) -> None:
    account = desk.log_in()
    first = await desk.refresher.fresh(account)
    second = await desk.refresher.fresh(account, rejected_access_token=first.access_token)
    assert second.access_token == desk.valid_token() != first.access_token


async def test_a_changed_resource_url_is_stored(desk: Desk) -> None:
    account = desk.log_in(resource_url="portal.qwen.ai")
    desk.logins.terms.resource_url = "shard-2.example"
    fresh = await desk.refresher.fresh(account)
    assert fresh.endpoint("") == desk.on_disk().endpoint("") == "https://shard-2.example/v1"
    desk.logins.terms.resource_url = None
    desk.now += 7 * HOUR
    assert (await desk.refresher.fresh(fresh)).resource_url == "shard-2.example"


@pytest.mark.parametrize("answered", ["none", "null"])
async def test_without_a_new_refresh_token_the_old_one_is_kept(desk: Desk, answered: str) -> None:
    account = desk.log_in()
    desk.logins.terms.refresh_token = answered
    fresh = await desk.refresher.fresh(account)
    assert fresh.refresh_token == account.refresh_token == desk.on_disk().refresh_token


@pytest.mark.parametrize("answer", ["invalid-grant", "invalid-grant-401", "401", "empty-400"])
async def test_a_refused_refresh_token_needs_a_login_and_nothing_is_deleted(
    desk: Desk, answer: str
) -> None:
    account = desk.log_in()
    line: Any = {"status": 400, "body": ""} if answer == "empty-400" else answer
    desk.simulator.oauth.script(token=[line])
    with pytest.raises(NeedsLogin, match="'work' needs a new login"):
        await desk.refresher.fresh(account)
    stored = desk.on_disk()
    assert stored.needs_login
    assert stored.refresh_token == account.refresh_token
    assert stored.access_token == account.access_token
    with pytest.raises(NeedsLogin):
        await desk.refresher.fresh(account)
    assert len(desk.outcomes) == 1


async def test_force_tries_again_and_clears_the_mark(desk: Desk) -> None:
    account = desk.log_in(left=HOUR, needs_login=True)
    assert not (await desk.refresher.fresh(account, force=True)).needs_login
    assert not desk.on_disk().needs_login


async def test_without_a_refresh_token_an_expired_account_needs_a_login(desk: Desk) -> None:
    account = desk.log_in(refresh_token=None)
    with pytest.raises(NeedsLogin, match="no refresh token"):
        await desk.refresher.fresh(account)
    assert desk.on_disk().needs_login
    assert desk.outcomes == []


@pytest.mark.parametrize(
    "answer",
    [
        *("500", "503", "502", "html", "html-400", "broken-json", "empty", "array", "drop"),
        *("error-200", "rate-limit", "slow-down", "slow-down-429"),
    ],
)
async def test_a_passing_fault_keeps_the_account(desk: Desk, answer: str) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=[answer])
    with pytest.raises(RefreshFailed, match="'work' could not be refreshed"):
        await desk.refresher.fresh(account)
    assert not desk.on_disk().needs_login
    assert (await desk.refresher.fresh(account)).access_token == desk.valid_token()


async def test_a_server_that_hangs_keeps_the_account(desk: Desk) -> None:
    account = desk.log_in()
    desk.timeout = 0.05
    desk.simulator.oauth.script(token=["hang"])
    with pytest.raises(RefreshFailed, match=r"no answer from 127\.0\.0\.1 in time"):
        await desk.refresher.fresh(account)
    desk.timeout = 5
    assert (await desk.refresher.fresh(account)).access_token == desk.valid_token()


async def test_certificates_that_cannot_be_read_keep_the_account(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = desk.log_in()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(RefreshFailed, match="the certificates or the proxy of the environment"):
        await desk.another(client=open_client).fresh(account)
    assert not desk.on_disk().needs_login


async def test_a_token_that_still_works_is_used_when_the_server_is_down(desk: Desk) -> None:
    account = desk.log_in(left=HOUR // 60)
    desk.simulator.oauth.script(token=[{"behaviour": "503", "times": None}])
    for _ in range(3):
        assert (await desk.refresher.fresh(account)).access_token == account.access_token
    assert desk.outcomes == ["503"]
    desk.now += 30_000
    await desk.refresher.fresh(account)
    assert desk.outcomes == ["503", "503"]
    with pytest.raises(RefreshFailed):
        await desk.refresher.fresh(account, rejected_access_token=account.access_token)


async def test_a_call_whose_token_was_rejected_does_not_take_it_from_a_call_that_kept_it(
    desk: Desk,
) -> None:
    account = desk.log_in(left=HOUR // 60)
    desk.simulator.oauth.script(token=["hold-h+503"])
    early = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("h")
    rejected = asyncio.ensure_future(
        desk.refresher.fresh(account, rejected_access_token=account.access_token)
    )
    await asyncio.sleep(0)
    desk.simulator.release("h")
    assert (await early).access_token == account.access_token
    assert (await rejected).access_token == desk.valid_token()


async def test_nobody_waits_long_for_a_refresh_while_the_token_still_works(desk: Desk) -> None:
    account = desk.log_in(left=HOUR // 60)
    desk.refresher.patience_s = 0.01
    desk.simulator.oauth.script(token=["hold-i"])
    assert await desk.refresher.fresh(account) is account
    assert await desk.refresher.fresh(account) is account
    desk.simulator.release("i")
    await desk.simulator.closed(1)
    await desk.refresher.aclose()
    assert desk.on_disk().access_token == desk.valid_token() != account.access_token
    assert desk.outcomes == ["issued"]


async def test_a_client_that_goes_away_does_not_cost_the_token(desk: Desk) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["gate-a"])
    leaving = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("a")
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    desk.simulator.release("a")
    assert (await desk.refresher.fresh(account)).access_token == desk.valid_token()
    assert desk.outcomes == ["issued"]


async def test_who_leaves_takes_nothing_from_the_others(desk: Desk) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["gate-g"])
    calls = [asyncio.ensure_future(desk.refresher.fresh(account)) for _ in range(3)]
    await desk.simulator.reached("g")
    calls[0].cancel()
    calls[1].cancel()
    desk.simulator.release("g")
    assert (await calls[2]).access_token == desk.valid_token()


async def test_closing_waits_for_the_token(desk: Desk) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["gate-b"])
    leaving = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("b")
    closing = asyncio.ensure_future(desk.refresher.aclose())
    desk.simulator.release("b")
    await closing
    assert desk.on_disk().access_token == desk.valid_token()
    await leaving


class FullDisk(AccountStore):
    """A store whose file cannot be written for a while."""

    full = True

    def update(self, change: Any) -> AccountFile:
        if self.full:
            raise AccountFileError("The account file cannot be written: No space left on device.")
        return super().update(change)


async def test_a_token_that_could_not_be_stored_is_not_given_out_and_not_lost(desk: Desk) -> None:
    account = desk.log_in()
    store = FullDisk(desk.store.path)
    refresher = desk.another(store)
    with pytest.raises(RefreshFailed, match="No space left"):
        await refresher.fresh(account)
    store.full = False
    assert (await refresher.fresh(account)).access_token == desk.valid_token()
    assert desk.on_disk().access_token == desk.valid_token()
    assert desk.outcomes == ["issued"]


async def test_a_program_that_redeemed_without_our_lock_is_adopted(desk: Desk) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["hold-c"])
    waiting = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("c")
    theirs = account.model_copy(
        update={
            "refresh_token": SecretStr("refresh-of-theirs"),
            "access_token": SecretStr("access-of-theirs"),
            "expires": desk.now + HOUR,
        }
    )
    desk.store.update(lambda file: file.replace(theirs))
    desk.logins.of("work").revoked = True
    desk.simulator.release("c")
    assert (await waiting).access_token == theirs.access_token
    assert not desk.on_disk().needs_login


async def test_a_login_made_during_the_redeem_counts(desk: Desk) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["hold-d"])
    waiting = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("d")
    anew = account.model_copy(
        update={"refresh_token": SecretStr("r-anew"), "access_token": SecretStr("a-anew")}
    )
    desk.store.update(lambda file: file.replace(anew))
    desk.simulator.release("d")
    assert (await waiting).access_token == SecretStr("a-anew")
    assert desk.on_disk().refresh_token == SecretStr("r-anew")


async def test_an_account_that_was_renamed_during_the_redeem_gets_its_token(desk: Desk) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["hold-e"])
    waiting = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("e")
    renamed = {"name": "job"}
    desk.store.update(lambda file: file.change("work", lambda a: a.model_copy(update=renamed)))
    desk.simulator.release("e")
    assert (await waiting).name == "job"
    assert desk.on_disk("job").access_token == desk.valid_token()


async def test_a_removed_account_does_not_come_back(desk: Desk) -> None:
    account = desk.log_in()
    desk.log_in("other")
    desk.simulator.oauth.script(token=["hold-f"])
    waiting = asyncio.ensure_future(desk.refresher.fresh(account))
    await desk.simulator.reached("f")
    desk.store.update(lambda file: file.remove("work"))
    desk.simulator.release("f")
    with pytest.raises(RefreshFailed, match="no longer in the account file"):
        await waiting
    assert [a.name for a in AccountStore(desk.store.path).accounts()] == ["other"]
    with pytest.raises(RefreshFailed, match="no longer in the account file"):
        await desk.refresher.fresh(account)


async def test_a_file_that_cannot_be_read_is_named(desk: Desk) -> None:
    account = desk.log_in()
    desk.store.path.write_text("{")
    with pytest.raises(RefreshFailed, match=r"accounts\.json cannot be used"):
        await desk.refresher.fresh(account)
    assert desk.store.path.read_text() == "{"


async def test_no_token_is_in_the_log_or_in_an_error(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account = await desk.refresher.fresh(desk.log_in())
    assert account.refresh_token is not None
    quoting = {
        "error": "invalid_grant",
        "error_description": f"no {account.refresh_token.get_secret_value()}",
    }
    desk.simulator.oauth.script(token=[{"status": 400, "body": json.dumps(quoting)}])
    with pytest.raises(NeedsLogin) as caught:
        await desk.refresher.fresh(account, force=True)
    ours = caught.getrepr(showlocals=True, tbfilter=lambda info: info.traceback[1:])
    shown = f"{caplog.text} {caught.value!r} {ours}"
    assert "refresh_token" in shown
    assert "refreshed the token of account 'work'" in caplog.text
    family = desk.logins.of("work")
    for secret in (family.refresh_token, family.access_token, *family.spent):
        assert secret not in shown
