from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from contextlib import AsyncExitStack

import httpx
import pytest

from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.oauth.errors import NeedsLogin

from .logins import Desk, Worker, worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


async def kill(running: Worker) -> None:
    running.process.kill()
    await running.process.wait()


async def test_eight_processes_with_fifty_calls_each_redeem_once(desk: Desk) -> None:
    account = desk.log_in()
    async with AsyncExitStack() as stack:
        workers = await asyncio.gather(*(stack.enter_async_context(worker(desk)) for _ in range(8)))
        answers = await asyncio.gather(*(running.ask("50") for running in workers))
    token = desk.valid_token().get_secret_value()
    assert [json.loads(a) for a in answers] == [{"tokens": [token], "errors": []}] * 8
    assert desk.outcomes == ["issued"]
    stored = desk.on_disk()
    assert stored.access_token == desk.valid_token() != account.access_token
    assert not stored.needs_login


async def test_the_token_is_on_disk_when_it_is_given_out(desk: Desk) -> None:
    account = desk.log_in()
    async with worker(desk) as first:
        given = json.loads(await first.ask("1"))["tokens"]
        await kill(first)
    assert desk.on_disk().access_token == desk.valid_token()
    assert given == [desk.valid_token().get_secret_value()]
    async with worker(desk) as second:
        assert json.loads(await second.ask("1"))["tokens"] == given
    assert desk.outcomes == ["issued"]
    assert (await desk.refresher.fresh(account, force=True)).access_token == desk.valid_token()


async def test_a_process_killed_while_it_redeems_leaves_the_token_to_the_next(desk: Desk) -> None:
    desk.log_in()
    desk.simulator.oauth.script(token=["hold-a"])
    async with worker(desk) as first:
        first.say("50")
        await desk.simulator.reached("a")
        await kill(first)
    async with worker(desk) as second:
        answer = json.loads(await second.ask("50"))
    assert answer == {"tokens": [desk.valid_token().get_secret_value()], "errors": []}
    assert desk.outcomes == ["open", "issued"]


async def test_others_wait_for_a_redeem_and_take_over_when_it_is_killed(desk: Desk) -> None:
    desk.log_in()
    desk.simulator.oauth.script(token=["hold-b"])
    async with worker(desk) as first, worker(desk) as second:
        first.say("1")
        await desk.simulator.reached("b")
        second.say("1")
        await kill(first)
        answer = json.loads(await second.line())
    assert answer == {"tokens": [desk.valid_token().get_secret_value()], "errors": []}


async def test_an_answer_that_a_killed_process_never_read_costs_a_login_and_no_account(
    desk: Desk,
) -> None:
    account = desk.log_in()
    desk.simulator.oauth.script(token=["gate-c"])
    async with worker(desk) as first:
        first.say("1")
        await desk.simulator.reached("c")
        await kill(first)
    with pytest.raises(NeedsLogin):
        await desk.refresher.fresh(account)
    assert desk.on_disk().refresh_token == account.refresh_token


async def killed_at_random(desk: Desk, running: Worker, moment: float) -> None:
    before = len(desk.simulator.requests)
    child = int(await running.ask("fork"))
    await desk.simulator.received(before + 1)
    await asyncio.sleep(moment)
    os.kill(child, signal.SIGKILL)
    assert await running.ask(f"reap {child}") == "reaped"
    # What the child sent may lie in a queue still; this comes behind it.
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        await client.get(f"{desk.simulator.url}/_simulator/oauth/redeems")
    await desk.simulator.closed(len(desk.simulator.requests))


@pytest.mark.parametrize("times", [30, pytest.param(300, marks=pytest.mark.slow)])
async def test_the_file_survives_kills_at_random_moments(desk: Desk, times: int) -> None:
    chance = random.Random(3)
    desk.log_in()
    async with worker(desk) as running:
        for _ in range(times):
            await killed_at_random(desk, running, chance.uniform(0.0, 0.03))
            (account,) = AccountStore(desk.store.path).accounts()
            assert account.refresh_token is not None
            if account.refresh_token.get_secret_value() in desk.logins.of("work").spent:
                # The server had rotated it, and the answer was never read.
                desk.store.update(lambda file: file.remove("work"))
                desk.log_in()
            else:
                fresh = await desk.refresher.fresh(account, force=True)
                assert fresh.access_token == desk.valid_token()
