"""What clients, accounts and files get of it when a real proxy is stopped."""

from __future__ import annotations

import os
import pty
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwen_mitm.failover_layer import TICK_S
from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.stopping import PATIENCE_S
from tests.e2e.accounts import (
    AccountsOfTest,
    accounts_of,
    ask,
    leaks,
    limited,
    log_of,
    now_ms,
    served,
    wait_until,
)
from tests.e2e.clients import Way, final
from tests.e2e.conftest import StartProxy
from tests.e2e.proxy import Proxy
from tests.e2e.wire import COMMENT, Wire
from tests.event_checker import Event, check_events, events_of
from tests.layer_driver import Version

#: Beyond the wait: mitmproxy's own end, and that of Python.
MORE_S = 3.0


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


def open_proxy(start_proxy: StartProxy, accounts: AccountsOfTest, **arguments: object) -> Proxy:
    return start_proxy(env=accounts.env, options=accounts.options, **arguments)


def stopped(proxy: Proxy, number: int = signal.SIGINT) -> float:
    """Seconds until the process ended, as it should."""
    began = time.monotonic()
    os.kill(proxy.pid, number)
    assert proxy.wait(20) == 0, proxy.log
    return time.monotonic() - began


def last_error(body: bytes) -> Event:
    events = events_of(body)
    check_events(events)
    assert events[-1]["type"] == "response.failed"
    error: Event = events[-1]["response"]["error"]
    return error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("version", ["h1", "h2"])
def test_a_stream_ends_with_an_event_and_nobody_is_blamed(
    start_proxy: StartProxy, accounts: AccountsOfTest, version: Version, number: int
) -> None:
    accounts.write(accounts.key("plan"))
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, version) as wire:
        answer = wire.ask("sim-hang-after-3")
        wire.see(answer, "response.output_text.delta")
        os.kill(proxy.pid, number)
        began = time.monotonic()
        wire.finish(answer)
        took = time.monotonic() - began
    assert proxy.wait() == 0
    assert not answer.broken
    assert took < PATIENCE_S + TICK_S
    error = last_error(answer.body)
    assert error["code"] == "server_error"
    assert "was stopped" in error["message"]
    plan = accounts.on_disk("plan")
    assert plan.cooldowns == {}
    assert plan.usage is not None
    assert plan.usage.requests == 1
    assert "was lost" not in log_of(proxy)
    assert "account plan:" not in proxy.log
    # Nobody pays for what nobody reads.
    accounts.simulator.requests(closed=1)


def test_requests_that_have_no_answer_yet_get_one(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.key("plan"))
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, "h2") as wire:
        streamed = wire.ask("sim-silent-head-60")
        whole = wire.post({"model": "sim-silent-head-60", "input": "hello"})
        other = wire.post(b"{}", path="/v1/embeddings?sim-silent-head-60")
        accounts.simulator.requests(received=3)
        os.kill(proxy.pid, signal.SIGINT)
        for answer in (streamed, whole):
            wire.finish(answer)
            assert answer.status == 503
            assert b'"code": "server_error"' in answer.body
            assert b"was stopped" in answer.body
        wire.finish(other)
    assert proxy.wait() == 0
    assert accounts.on_disk("plan").cooldowns == {}
    log_of(proxy)


def test_requests_that_wait_for_an_account_get_an_answer(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    limit = {"*": limited(60)}
    accounts.write(*(accounts.key(name, cooldowns=limit) for name in ("one", "two")))
    settings = {"qwen_max_rate_limit_wait_seconds": "300", "qwen_heartbeat_seconds": "1"}
    proxy = start_proxy(env=accounts.env, options=accounts.options | settings)
    with Wire(proxy, "h2") as wire:
        beating, whole = wire.ask(), wire.post({"model": "m", "input": "hello"})
        wire.beats(beating, 1)
        took = stopped_while(proxy, lambda: (wire.finish(beating), wire.finish(whole)))
    assert took < PATIENCE_S + TICK_S
    assert "was stopped" in last_error(beating.body.replace(COMMENT, b""))["message"]
    assert whole.status == 503
    assert accounts.simulator.requests() == []


def stopped_while(proxy: Proxy, reading: object) -> float:
    began = time.monotonic()
    os.kill(proxy.pid, signal.SIGINT)
    assert callable(reading)
    reading()
    assert proxy.wait() == 0
    return time.monotonic() - began


def test_a_token_that_is_being_redeemed_is_written(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    before = accounts.oauth("work", expired=True)
    accounts.write(before)
    simulator.oauth("script", token=["gate-slow"])
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, "h1") as wire:
        wire.ask()
        simulator.reached("slow")
        os.kill(proxy.pid, signal.SIGINT)
        proxy_is_stopping = threading.Timer(0.5, simulator.release, ["slow"])
        proxy_is_stopping.start()
        assert proxy.wait() == 0
    after = accounts.on_disk("work")
    assert after.refresh_token
    assert after.refresh_token.get_secret_value() != before["refreshToken"]
    assert not after.needs_login
    assert leaks(log_of(proxy)) == set()


def test_a_token_server_that_hangs_is_not_waited_for(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.oauth("work", expired=True))
    accounts.simulator.oauth("script", token=["hold-never"])
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, "h1") as wire:
        wire.ask()
        accounts.simulator.reached("never")
        assert stopped(proxy) < PATIENCE_S + MORE_S
    assert "what hangs" in log_of(proxy)
    accounts.simulator.release("never")


def test_another_interrupt_ends_it_at_once(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    token = accounts.oauth("work") | {"expires": now_ms() + 60_000}
    accounts.write(token)
    accounts.simulator.oauth("script", token=["hold-never"])
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, "h1") as wire:
        answer = wire.ask("sim-hang-after-3")
        wire.see(answer, "response.output_text.delta")
        os.kill(proxy.pid, signal.SIGINT)
        # The first one was heard.
        wire.finish(answer)
        assert stopped(proxy) < PATIENCE_S
    accounts.simulator.release("never")


def test_closing_the_terminal_stops_it_as_properly(
    accounts: AccountsOfTest, tmp_path: Path, confdir: Path
) -> None:
    accounts.write(accounts.key("plan"))
    proxy = Proxy(tmp_path, confdir, env=accounts.env, options=accounts.options)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execve(proxy._command[0], proxy._command, proxy._env)
    shown = b""
    while b"rewrites Responses" not in shown or not (
        found := re.findall(rb"listening at (?:http://)?127\.0\.0\.1:(\d+)", shown)
    ):
        shown += os.read(terminal, 65_536)
    proxy.port = int(found[-1])
    with Wire(proxy, "h1") as wire:
        answer = wire.ask("sim-hang-after-3")
        wire.see(answer, "response.output_text.delta")
        os.close(terminal)
        wire.finish(answer)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    last_error(answer.body)
    assert accounts.on_disk("plan").usage is not None


def test_what_was_stored_and_used_before_the_end_is_there_after_it(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.key("plan"))
    first = open_proxy(start_proxy, accounts)
    with Way(first).http() as http:
        told = final(ask(http))
    assert stopped(first) < MORE_S
    assert accounts.on_disk("plan").usage is not None
    with Way(open_proxy(start_proxy, accounts)).http() as http:
        assert http.get(f"/responses/{told['id']}").json()["output"] == told["output"]


def test_the_same_port_can_be_listened_at_again_at_once(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.key("plan"))
    proxy = open_proxy(start_proxy, accounts)
    for _ in range(2):
        with ExitStack() as stack:
            wire = stack.enter_context(Wire(proxy, "h1"))
            answer = wire.ask("sim-hang-after-3")
            wire.see(answer, "response.output_text.delta")
            stopped(proxy)
        proxy = open_proxy(start_proxy, accounts, arguments=["-p", str(proxy.port)])
    with Way(proxy).http() as http:
        final(ask(http))
    assert served(accounts.simulator)[-1] == "plan"


def test_a_request_that_comes_while_it_ends_is_answered(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(accounts.oauth("slow", expired=True), accounts.key("plan"))
    accounts.simulator.oauth("script", token=["hold-never"])
    proxy = open_proxy(start_proxy, accounts)
    with Wire(proxy, "h2") as wire:
        asked = [wire.ask(), wire.ask()]
        accounts.simulator.reached("never")
        wait_until(lambda: bool(served(accounts.simulator)))
        os.kill(proxy.pid, signal.SIGINT)
        for answer in asked:
            wire.finish(answer)
        late = wire.finish(wire.ask())
    assert proxy.wait() == 0
    assert late.status == 503
    accounts.simulator.release("never")
