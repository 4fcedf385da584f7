"""Many requests at once over several accounts, most of which fail, through a real mitmdump."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import (
    AccountsOfTest,
    Entry,
    accounts_of,
    ask,
    chats,
    leaks,
    limited,
    log_of,
    served,
    wait_until,
)
from tests.e2e.clients import Way, error_of, final, header, text_of
from tests.e2e.conftest import StartProxy
from tests.e2e.proxy import Proxy
from tests.e2e.wire import Wire
from tests.event_checker import check_events, events_of
from tests.layer_peers import Answer

LETTERS = "abcde"
REQUESTS = 200
#: What the accounts a to e do in each turn; one is healthy. On HTTP/2 a connection that drops takes
#: all its streams along, so that is for the two that share theirs with nobody.
TURNS = [
    ["", "drop-first", "401", "403", "429-hour"],
    ["401", "", "429+retry-after-60", "500", "drop-first"],
    ["error-first", "unfinished-0", "", "429-quota", "empty"],
    ["reset-0", "429+retry-date-600", "502", "", "html"],
    ["403-quota", "drop-0", "no-choices", "400-arrearage", ""],
]
GATED = {"model": "sim-gate-open@3", "input": "hello", "stream": True}
SAID = "You said “hello {}”. 你好 — this is the Qwen simulator, and it heard you. 👋"


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


# Two hundred at once -----------------------------------------------------------------------------


class Fleet:
    """Three HTTP/2 connections with many streams each, and many HTTP/1.1 connections."""

    SHARES = (*[50] * 3, *[1] * 50)

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._stack = ExitStack()
        self._wires: list[Wire] = []

    def __enter__(self) -> Fleet:
        for share in self.SHARES:
            wire = Wire(self._proxy, "h2" if share > 1 else "h1")
            self._wires.append(self._stack.enter_context(wire))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, model: str, gate: str, simulators: Sequence[SimulatorProcess]) -> None:
        """Ask at once; open the gate only when each client has heard the first words."""
        homes = [w for w, share in zip(self._wires, self.SHARES, strict=True) for _ in range(share)]
        fleet = [
            (wire, wire.ask(model, input=f"hello {number}")) for number, wire in enumerate(homes)
        ]
        for wire, answer in fleet:
            wire.wait(partial(speaks, answer))
        assert [(a.status, a.body) for _, a in fleet if a.status != 200 or a.ended] == []
        for simulator in simulators:
            simulator.release(gate)
        for number, (wire, answer) in enumerate(fleet):
            events = events_of(wire.finish(answer).body)
            check_events(events)
            assert events[-1]["type"] == "response.completed"
            assert text_of(events[-1]["response"]) == SAID.format(number)


def speaks(answer: Answer) -> bool:
    return b"output_text.delta" in answer.body or answer.ended or answer.broken


def crew(
    accounts: AccountsOfTest, other: SimulatorProcess, turn: int
) -> tuple[list[Entry], dict[str, str]]:
    """Two logins and three keys at four destinations, with names of their own for each turn."""
    a, b, c, d, e = (f"{letter}{turn}" for letter in LETTERS)
    entries = [
        accounts.oauth(a),
        accounts.oauth(b, resourceUrl=f"https://localhost:{accounts.simulator.port}"),
        accounts.key(c),
        accounts.key(d, f"{accounts.simulator.url}/compatible-mode/v1"),
        accounts.key(e, other.base_url),
    ]
    other.accounts({f"fake-key-{e}": e})
    here, there = accounts.simulator.port, other.port
    return entries, {
        a: f"127.0.0.1:{here}/v1",
        b: f"localhost:{here}/v1",
        c: f"127.0.0.1:{here}/v1",
        d: f"127.0.0.1:{here}/compatible-mode/v1",
        e: f"127.0.0.1:{there}/v1",
    }


def bearer(entry: Entry) -> str:
    found: str = entry.get("apiKey") or entry["accessToken"]
    return found


def fail(simulator: SimulatorProcess, entry: Entry, fault: str, good: int, gate: str) -> None:
    """Some answers are good, and from then on none is."""
    mine = {"bearer": bearer(entry)}
    lines: list[dict[str, Any]] = [{"behaviour": fault, "times": None, **mine}]
    if good:
        lines.insert(0, {"behaviour": f"gate-{gate}@3", "times": good, **mine})
    simulator.script(lines)


def check_destinations(
    received: list[Any], homes: dict[str, str], entries: list[Entry], redeemed_home: str
) -> set[str]:
    """Each request has the bearer of the account whose home it reached; the accounts."""
    initial = {f"Bearer {bearer(entry)}": entry["name"] for entry in entries}
    seen = set()
    for request in received:
        first = initial.get(header(request, "authorization") or "")
        name = first or request["account"]
        home = request["authority"] + request["path"].removesuffix("/chat/completions")
        assert home == (homes[first] if first else redeemed_home), name
        seen.add(name)
    return seen


def seen_by(simulators: Sequence[SimulatorProcess]) -> list[Any]:
    return [request for simulator in simulators for request in chats(simulator)]


def test_two_hundred_requests_at_once_are_answered_whoever_of_five_accounts_fails(
    start_proxy: StartProxy,
    accounts: AccountsOfTest,
    simulator_http1: SimulatorProcess,
    tmp_path: Path,
) -> None:
    simulator, other = accounts.simulator, simulator_http1
    both = [simulator, other]
    redeemed_home = f"127.0.0.1:{simulator.port}/v1"
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(simulator.ca_pem.read_bytes() + other.ca_pem.read_bytes())  # type: ignore[union-attr]
    flows, har = tmp_path / "flows.mitm", tmp_path / "flows.har"
    entries, homes = crew(accounts, other, 0)
    accounts.write(*entries)
    proxy = start_proxy(
        env=accounts.env,
        options={
            "ssl_verify_upstream_trusted_ca": str(authorities),
            "hardump": str(har),
            "flow_detail": "2",
        },
        arguments=["-w", str(flows), "-v"],
    )
    with Fleet(proxy) as fleet:
        for turn, faults in enumerate(TURNS):
            if turn:
                for one in both:
                    one.reset()
                simulator.oauth("terms", resource_url=simulator.url)
                entries, homes = crew(accounts, other, turn)
                accounts.write(*entries)
                until_asked(proxy, both, set(homes))
            gate = f"turn-{turn}"
            for place, (entry, fault) in enumerate(zip(entries, faults, strict=True)):
                if fault:
                    where = other if entry["name"].startswith("e") else simulator
                    # What drops may not take good answers of its own along.
                    good = 0 if entry["name"].startswith("b") else place * 5
                    fail(where, entry, fault, good, gate)
            fleet.ask(f"sim-gate-{gate}@3", gate, both)

            received = [
                request for request in seen_by(both) if "hello there" not in request["body"]
            ]
            assert len(received) >= REQUESTS
            assert check_destinations(received, homes, entries, redeemed_home) == set(homes)
    proxy.stop()

    saved, harred = flows.read_bytes().decode("latin-1"), har.read_text("utf-8")
    assert saved.count("/chat/completions") >= REQUESTS
    assert harred.count("/chat/completions") >= REQUESTS
    assert leaks(saved) == leaks(harred) == leaks(log_of(proxy)) == set()


def until_asked(proxy: Proxy, simulators: Sequence[SimulatorProcess], names: set[str]) -> None:
    """Wait until the proxy has seen the new file."""
    with Way(proxy).http() as http:

        def is_new() -> bool:
            assert ask(http).status_code == 200
            return seen_by(simulators)[-1]["account"] in names

        wait_until(is_new)


def test_requests_that_queue_for_a_stream_outlive_the_connection(
    start_proxy: StartProxy, accounts: AccountsOfTest, simulator_http1: SimulatorProcess
) -> None:
    simulator, other = accounts.simulator, simulator_http1
    other.accounts({"fake-key-good": "good"})
    authorities = accounts.path.parent / "authorities.pem"
    accounts.write(accounts.key("bad"), accounts.key("good", other.base_url))
    authorities.write_bytes(simulator.ca_pem.read_bytes() + other.ca_pem.read_bytes())  # type: ignore[union-attr]
    proxy = start_proxy(
        env=accounts.env, options={"ssl_verify_upstream_trusted_ca": str(authorities)}
    )
    mine = {"bearer": "fake-key-bad", "times": 20}
    simulator.script({"behaviour": fault, **mine} for fault in ("drop-first", "unfinished-0"))
    for _ in range(3):
        with Wire(proxy, "h2") as wire:
            fleet = [wire.ask() for _ in range(60)]
            for answer in fleet:
                check_events(events_of(wire.finish(answer).body))
    log_of(proxy)


# Hosts that do not answer ------------------------------------------------------------------------


@contextmanager
def deaf_host() -> Iterator[str]:
    """The base URL of a host to which no connection comes about, nor is any refused."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        # What exceeds the queue of connections that nobody accepts is left without an answer.
        server.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"https://127.0.0.1:{server.getsockname()[1]}/v1"


@contextmanager
def mute_host() -> Iterator[str]:
    """The base URL of a host that takes connections and never says a word of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}/v1"


def test_connects_that_hang_cost_their_requests_a_wait_and_no_error(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    with deaf_host() as deaf, mute_host() as mute:
        accounts.write(
            accounts.key("deaf", deaf),
            accounts.key("mute", mute),
            *(accounts.key(name) for name in "abc"),
        )
        proxy = start_proxy(
            env=accounts.env, options=accounts.options | {"qwen_upstream_timeout_seconds": "2"}
        )
        with Wire(proxy, "h2") as wire, Wire(proxy, "h1") as other:
            fleet = [(wire, wire.ask()) for _ in range(20)] + [(other, other.ask())]
            for home, answer in fleet:
                check_events(events_of(home.finish(answer).body))
                assert answer.status == 200
    assert len(chats(simulator)) == len(fleet)
    assert set(served(simulator)) == set("abc")
    for name in ("deaf", "mute"):
        assert re.search(rf"account {name}: transient", proxy.log)


# The file changes while the proxy runs -----------------------------------------------------------


def use_until(http: httpx.Client, simulator: SimulatorProcess, wanted: set[str]) -> None:
    """Ask until the accounts that take turns are these."""

    def they_are() -> bool:
        for _ in wanted:
            assert ask(http).status_code == 200
        return set(served(simulator)[-2 * len(wanted) :]) == wanted

    wait_until(they_are)


def test_what_another_process_does_to_the_accounts_counts_within_a_second(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    a, b, c = accounts.key("a"), accounts.key("b"), accounts.key("c")
    accounts.write(a, b)
    proxy = start_proxy(env=accounts.env, options=accounts.options)
    with Way(proxy).http() as http:
        use_until(http, simulator, {"a", "b"})
        for entries, wanted in (
            ([a, b | {"disabled": True}, c], {"a", "c"}),
            ([a | {"cooldowns": {"*": limited(600, "window")}}, b, c], {"b", "c"}),
            ([a, b, c], {"a", "b", "c"}),
        ):
            accounts.write(*entries)
            began = time.monotonic()
            use_until(http, simulator, wanted)
            assert time.monotonic() - began < 2
    log_of(proxy)


BROKEN_FILES = {
    '{"version": 1, "accounts": [': "qwen-auth-accounts.json cannot be used",
    '{"version": 2}': "update qwen-mitm",
    '{"version": 1, "accounts": []}': "qwen-mitm login",
}


def test_an_unusable_file_is_named_and_counts_again_when_it_is_mended(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    a, b = accounts.key("a"), accounts.key("b")
    accounts.write(a, b)
    proxy = start_proxy(env=accounts.env, options=accounts.options)
    with Way(proxy).http() as http:
        with http.stream("POST", "/responses", json=GATED) as answer:
            accounts.simulator.reached("open")
            for broken, words in BROKEN_FILES.items():
                accounts.put(broken)
                wait_until(lambda: ask(http).status_code == 400)
                error = error_of(ask(http))
                assert words in error["message"]
                assert leaks(error["message"]) == set()
                assert http.get("/models").status_code == 400
                assert accounts.path.read_text() == broken

                accounts.write(a, b)
                wait_until(lambda: ask(http).status_code == 200)
            accounts.simulator.release("open")
            # What is under way is not concerned.
            answer.read()
        assert final(answer)["status"] == "completed"
    log_of(proxy)


# Strategies --------------------------------------------------------------------------------------


def strategic(
    start_proxy: StartProxy, accounts: AccountsOfTest, strategy: str, names: str
) -> Proxy:
    accounts.write(*(accounts.key(name) for name in names))
    return start_proxy(
        env=accounts.env, options=accounts.options | {"qwen_rotation_strategy": strategy}
    )


def test_round_robin_goes_round(start_proxy: StartProxy, accounts: AccountsOfTest) -> None:
    proxy = strategic(start_proxy, accounts, "round-robin", "abcd")
    with Way(proxy).http() as http:
        for _ in range(12):
            final(ask(http))
    order = "".join(served(accounts.simulator))
    assert order in "abcd" * 4


def test_sequential_stays_until_the_account_is_limited(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    proxy = strategic(start_proxy, accounts, "sequential", "abc")
    accounts.simulator.script(
        [
            {"behaviour": "ok", "bearer": "fake-key-a", "times": 3},
            {"behaviour": "429-hour", "bearer": "fake-key-a", "times": None},
        ]
    )
    with Way(proxy).http() as http:
        for _ in range(7):
            final(ask(http))
    assert "".join(served(accounts.simulator)) == "aaabbbb"


CONVERSATIONS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"prompt_cache_key": "one"}, {}),
    ({}, {"session_id": "two"}),
    ({}, {"x-session-affinity": "three"}),
    ({"input": [{"role": "user", "content": "a fourth beginning"}]}, {}),
]


def talk(http: httpx.Client, number: int, turn: int) -> None:
    fields, headers = CONVERSATIONS[number]
    said = fields.get("input", [{"role": "user", "content": "hello"}])
    turns = [
        {"role": role, "content": f"{role} {n}"}
        for n in range(turn)
        for role in ("assistant", "user")
    ]
    body = {"model": "qwen3-coder-plus", "stream": True, **fields, "input": [*said, *turns]}
    final(http.post("/responses", json=body, headers=headers))


def test_a_conversation_stays_on_its_account_and_moves_when_that_is_limited(
    start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    simulator = accounts.simulator
    proxy = strategic(start_proxy, accounts, "sticky", "abcd")
    with Way(proxy).http() as http:
        for turn in range(3):
            for number in range(len(CONVERSATIONS)):
                talk(http, number, turn)
        homes = served(simulator)[:4]
        assert served(simulator) == homes * 3
        # New conversations go round.
        assert set(homes) == set("abcd")

        mine = {"bearer": f"fake-key-{homes[0]}", "times": None}
        simulator.script([{"behaviour": "429-week", **mine}])
        for turn in range(3, 6):
            for number in range(len(CONVERSATIONS)):
                talk(http, number, turn)
        later = served(simulator)[12:]
        assert later == later[:4] * 3
        assert later[1:4] == homes[1:4]
        assert later[0] != homes[0]
        assert sum(r["status"] == 429 for r in chats(simulator)) == 1
