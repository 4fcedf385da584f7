"""What clients get, and when, while no account can answer; through a real mitmdump."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import (
    AccountsOfTest,
    accounts_of,
    ask,
    chats,
    leaks,
    limited,
    log_of,
    served,
    wait_until,
)
from tests.e2e.clients import Way, checked_events, error_of, final
from tests.e2e.conftest import StartProxy
from tests.e2e.proxy import Proxy
from tests.e2e.wire import Wire
from tests.event_checker import check_events, events_of

#: What OpenCode repeats a request for, wherever it stands in the answer (clients.md rule 2).
RETRIED = re.compile(
    r"429|50[0234]|524|rate.?limit|too many|overloaded|unavailable|internal|server.?error"
    r"|terminated|fetch failed|network|upstream connect|connection (error|refused|lost)|timed? ?out"
    r"|retry your|exhausted|try again|capacity",
    re.IGNORECASE,
)
#: How Codex reads a wait out of a message.
CODEX_WAIT = re.compile(r"try again in\s*(\d+(?:\.\d+)?)\s*(s|ms|seconds?)\b", re.IGNORECASE)
#: Seconds that an answer may take beyond the wait.
PROMPT_S = 0.5


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


def open_proxy(
    start_proxy: StartProxy, accounts: AccountsOfTest, wait_s: int, **options: str
) -> Proxy:
    waiting = {"qwen_max_rate_limit_wait_seconds": str(wait_s)}
    return start_proxy(env=accounts.env, options=accounts.options | waiting | options)


def limit(accounts: AccountsOfTest, **cooldowns: Any) -> None:
    """Accounts by name, each with its cooldown for all models."""
    entries = [accounts.key(n, cooldowns={"*": c}) for n, c in cooldowns.items()]
    accounts.write(*entries)


# At once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [0, 1])
def test_a_limit_beyond_the_longest_wait_is_said_at_once(
    start_proxy: StartProxy, accounts: AccountsOfTest, wait_s: int
) -> None:
    limit(accounts, a=limited(30), b=limited(90))
    with Way(open_proxy(start_proxy, accounts, wait_s)).http() as http:
        ask(http)
        times = []
        for number in range(6):
            began = time.monotonic()
            answer = ask(http, stream=number % 2 == 0)
            times.append(time.monotonic() - began)

    # The machine may be busy for a moment, so the best of them counts.
    assert min(times) < PROMPT_S
    assert answer.status_code == 429
    error = json.loads(answer.content)["error"]
    assert error.keys() == {"message", "type", "param", "code", "resets_at"}
    assert error["type"] == "usage_limit_reached"
    assert 0 < error["resets_at"] - time.time() <= 31
    assert float(answer.headers.get("retry-after", 0)) <= wait_s
    assert "a: " in error["message"]
    assert "b: " in error["message"]
    # Codex would sleep that long.
    assert not CODEX_WAIT.search(error["message"])
    assert leaks(answer.text) == set()
    assert chats(accounts.simulator) == []


def test_a_quota_that_is_used_up_for_long_has_no_word_that_makes_a_client_try_again(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(
        accounts.key("team-429", cooldowns={"*": limited(20 * 3600, "spent")}),
        accounts.key("upstream-503", cooldowns={"*": limited(30 * 3600, "window")}),
    )
    with Way(open_proxy(start_proxy, accounts, 300)).http() as http:
        answer = ask(http)

    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("usage_limit_reached", "quota_exceeded")
    assert not RETRIED.search(answer.text)
    assert "retry-after" not in answer.headers
    assert chats(accounts.simulator) == []


def test_accounts_that_nothing_but_a_person_brings_back_are_named_without_a_retry(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    accounts.write(
        accounts.key("off", disabled=True),
        accounts.oauth("gone", needsLogin=True),
    )
    with Way(open_proxy(start_proxy, accounts, 300)).http() as http:
        answer = ask(http)
    assert answer.status_code == 400
    assert not RETRIED.search(answer.text)
    assert "qwen-mitm login" in error_of(answer)["message"]


# After a wait ------------------------------------------------------------------------------------


def test_the_answer_comes_when_the_first_account_is_back(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    models = [f"qwen3-{number}" for number in range(5)]
    proxy = open_proxy(start_proxy, accounts, 5, qwen_heartbeat_seconds="1")
    first, second = limited(2.6), limited(60)
    accounts.write(
        accounts.key("a", cooldowns=dict.fromkeys(models, first)),
        accounts.key("b", cooldowns=dict.fromkeys(models, second)),
    )
    with Wire(proxy, "h2") as wire:
        # The upstream's connection is there.
        wire.finish(wire.ask("qwen3-other"))
        answers = [wire.ask(model) for model in models]
        whole = [wire.ask(models[0], stream=False)]
        for answer in answers:
            wire.beats(answer, 1)
        wire.wait(lambda: any(b"output_text.delta" in answer.body for answer in answers))
        late = time.time() - first["until"] / 1000
        for answer in answers:
            check_events(events_of(without_beats(wire.finish(answer).body)))
        assert json.loads(wire.finish(whole[0]).body)["status"] == "completed"

    assert 0 <= late < PROMPT_S
    assert set(served(accounts.simulator)[1:]) == {"a"}


def without_beats(body: bytes) -> bytes:
    return body.replace(b": keep-alive\n\n", b"")


def test_limited_again_after_the_wait_the_client_is_told(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    proxy = open_proxy(start_proxy, accounts, 3, qwen_heartbeat_seconds="1")
    first = limited(2.4)
    limit(accounts, a=first, b=limited(600))
    simulator.script([{"behaviour": "429+retry-after-60", "times": None}])
    with Wire(proxy, "h2") as wire:
        streamed, whole = wire.ask(), wire.ask(stream=False)
        for answer in (streamed, whole):
            wire.finish(answer)
        late = time.time() - first["until"] / 1000

    assert 0 <= late < 0.5
    assert {received["account"] for received in chats(simulator)} == {"a"}
    # The head of this one left with the first heartbeat.
    assert streamed.status == 200
    assert streamed.body.count(b": keep-alive") >= 1
    events = events_of(without_beats(streamed.body))
    check_events(events)
    assert events[-1]["type"] == "response.failed"
    failure = events[-1]["response"]["error"]
    assert failure["code"] == "rate_limit_exceeded"
    assert whole.status == 429
    error = json.loads(whole.body)["error"]
    assert error["type"] == "usage_limit_reached"
    assert "retry-after" not in whole.headers
    for message in (failure["message"], error["message"]):
        assert "a: " in message
        # Codex would sleep for a minute without a word.
        assert not CODEX_WAIT.search(message)


def test_a_small_rest_of_a_limit_is_passed_on_for_the_client_to_wait(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    proxy = open_proxy(start_proxy, accounts, 3)
    limit(accounts, a=limited(1.5), b=limited(600))
    accounts.simulator.script([{"behaviour": "429+retry-after-2", "times": None}])
    with Way(proxy).http() as http:
        answer = ask(http)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 3


def test_clients_that_leave_while_they_wait_are_forgotten(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    proxy = open_proxy(start_proxy, accounts, 30, qwen_heartbeat_seconds="1")
    limit(accounts, a=limited(2.6), b=limited(60))
    with Wire(proxy, "h2") as wire, Wire(proxy, "h1") as single, Wire(proxy, "h2") as other:
        staying = other.ask("qwen3-stays")
        leaving = [(wire, wire.ask("qwen3-leaves")) for _ in range(50)]
        leaving.append((single, single.ask("qwen3-leaves")))
        for home, answer in leaving:
            home.beats(answer, 1)
        for home, answer in leaving:
            home.leave(answer)
        proxy.wait_for_count("qwen3-leaves", len(leaving))
        check_events(events_of(without_beats(other.finish(staying).body)))
    (received,) = chats(simulator)
    assert received["json"]["model"] == "qwen3-stays"
    assert log_of(proxy).count("qwen3-leaves") == len(leaving)


# One account -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "others"),
    [
        ("429", []),
        ("429-hour", [{"name": "off", "apiKey": "fake-key-off", "disabled": True}]),
        ("429", [{"name": "gone", "refreshToken": "fake-key-gone", "needsLogin": True}]),
    ],
    ids=["alone", "beside a disabled one", "beside one that needs a login"],
)
def test_the_only_account_is_asked_each_time_and_its_words_pass(
    start_proxy: StartProxy,
    accounts: AccountsOfTest,
    others: list[dict[str, Any]],
    behaviour: str,
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.key("sole"), *others)
    simulator.script(
        [{"behaviour": f"{behaviour}+retry-after-7+rate-limits", "times": 10}],
    )
    with Way(open_proxy(start_proxy, accounts, 300)).http() as http:
        answers = [ask(http, stream=bool(number % 2)) for number in range(10)]
        final(ask(http))

    assert len(chats(simulator)) == 11
    for answer in answers:
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-ratelimit-limit-requests"] == "60"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        error = error_of(answer)
    if behaviour == "429":
        assert error == {
            "message": "Requests rate limit exceeded, please try again later.",
            "type": "limit_requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    else:
        assert error["message"] == "hour allocated quota exceeded."


def test_the_only_account_is_asked_although_the_file_says_that_it_is_limited(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    limit(accounts, sole=limited(3600, "window"))
    with Way(open_proxy(start_proxy, accounts, 300)).http() as http:
        final(ask(http))
    assert served(accounts.simulator) == ["sole"]
    wait_until(lambda: accounts.on_disk("sole").cooldowns == {})


# Hosts that fail ---------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["500", "drop-first"])
def test_failing_hosts_are_asked_once_per_request_of_the_client(
    start_proxy: StartProxy, accounts: AccountsOfTest, behaviour: str
) -> None:
    simulator = accounts.simulator
    accounts.write(
        *(accounts.key(name) for name in "abc"),
        accounts.key("off", disabled=True),
        accounts.key("spent", cooldowns={"*": limited(50_000, "spent")}),
    )
    simulator.script([{"behaviour": behaviour, "times": None}])
    with Way(open_proxy(start_proxy, accounts, 300)).http() as http:
        for _ in range(5):
            before = len(chats(simulator))
            answer = ask(http)
            assert answer.status_code >= 500
            assert "retry-after" not in answer.headers
            asked = [received["account"] for received in chats(simulator)[before:]]
            assert 1 <= len(asked) <= 3
            assert len(set(asked)) == len(asked)


def test_an_account_that_fails_once_is_back_soon(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    accounts.write(accounts.key("a"), accounts.key("b"))
    simulator.script([{"behaviour": "500", "bearer": "fake-key-a"}])
    with Way(open_proxy(start_proxy, accounts, 300)).http() as http:
        checked_events(ask(http))
        checked_events(ask(http))

        def both_answer() -> bool:
            checked_events(ask(http))
            return set(served(simulator)) == {"a", "b"}

        wait_until(both_answer)
