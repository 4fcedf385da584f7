"""Codex with ``supports_websockets``, through a real mitmdump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import AccountsOfTest, accounts_of, chats, served
from tests.e2e.clients.conftest import SCRIPTS
from tests.e2e.clients.programs import Codex, Done, Workshop
from tests.e2e.conftest import StartProxy, account_of, trust
from tests.e2e.proxy import Proxy

SOCKETS = ("model_providers.qwen.supports_websockets=true",)
UPGRADE = "GET https://portal.qwen.ai/v1/responses"


@pytest.fixture
def codex(clients: Path, client_home: Path, work: Path, proxy: Proxy) -> Codex:
    return Codex(Workshop(clients, client_home, work, proxy))


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


def ask(codex: Codex, prompt: str, model: str = "qwen3-coder-plus") -> Done:
    return codex.ask(prompt, model=model, settings=SOCKETS)


def test_a_loop_of_calls_goes_over_one_socket_after_a_warm_up(
    codex: Codex, work: Path, simulator: SimulatorProcess, proxy: Proxy
) -> None:
    before = proxy.log
    file = work / "a.txt"

    done = ask(codex, f"call:{codex.write(file, 'some words\n')}")

    assert done.status == 0, done.shown
    assert file.read_text("utf-8") == "some words\n"
    assert "The tools said" in done.out
    log = proxy.log.removeprefix(before)
    assert log.count(UPGRADE) == log.count("101 Switching Protocols") == 1
    # The warm-up asks nobody, and what it brought comes back with the first turn.
    first, second = (request["json"]["messages"] for request in chats(simulator))
    assert [message["role"] for message in first] == ["system", "user", "user"]
    assert second[: len(first)] == first
    assert [message["role"] for message in second[len(first) :]] == ["assistant", "tool"]


def test_a_limited_account_is_replaced_without_codex_seeing_it(
    clients: Path,
    client_home: Path,
    work: Path,
    start_proxy: StartProxy,
    accounts: AccountsOfTest,
    simulator: SimulatorProcess,
) -> None:
    accounts.write(accounts.key("spent"), accounts.key("fresh"))
    simulator.script([{"behaviour": "429+retry-after-60", "bearer": "fake-key-spent"}])
    proxy = start_proxy(env=accounts.env, options=accounts.options, scripts=SCRIPTS)

    done = ask(Codex(Workshop(clients, client_home, work, proxy)), "hello there")

    assert done.status == 0, done.shown
    assert "You said “hello there”" in done.out
    assert served(simulator) == ["fresh"]


def test_a_refusal_of_the_upstream_is_shown_in_its_words(
    codex: Codex, simulator: SimulatorProcess
) -> None:
    done = ask(codex, "hello there", model="sim-400-inspection")
    assert "inappropriate content" in done.shown
    assert len(chats(simulator)) == 1


def test_codex_goes_on_over_http_at_once_when_websocket_mode_is_off(
    clients: Path,
    client_home: Path,
    work: Path,
    start_proxy: StartProxy,
    simulator: SimulatorProcess,
) -> None:
    options = trust(simulator) | {"qwen_websocket": "false"}
    proxy = start_proxy(env=account_of(simulator), options=options, scripts=SCRIPTS)

    done = ask(Codex(Workshop(clients, client_home, work, proxy)), "hello there")

    assert done.status == 0, done.shown
    assert "You said “hello there”" in done.out
    assert proxy.log.count("426 Upgrade Required") == 1
