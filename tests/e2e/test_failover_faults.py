"""Upstreams that cannot be reached or are stale, and bugs of ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.conftest import FAKE_KEY, account_of, trust
from tests.e2e.flaky import ANSWER, FlakyUpstream, unused_port
from tests.e2e.proxy import MAIN, Proxy
from tests.e2e.wire import CLIENT_KEY, Wire
from tests.event_checker import check_events, events_of
from tests.layer_driver import Version
from tests.layer_peers import Answer

CLIENTS: list[Version] = ["h1", "h2"]
UNKNOWN_HOST = "nowhere.invalid"

both_clients = pytest.mark.parametrize("client", CLIENTS)


def last(answer: Answer) -> str:
    """The name of the last event of a whole stream that keeps every rule."""
    assert (answer.status, answer.ended, answer.broken) == (200, True, False), answer
    events = events_of(answer.body)
    check_events(events)
    name: str = events[-1]["type"]
    return name


def error(answer: Answer) -> dict[str, Any]:
    assert (answer.ended, answer.broken) == (True, False), answer
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = json.loads(answer.body)["error"]
    return found


# One plain port that is served by whatever the test puts there -----------------------------------


class Lonely:
    """A proxy that claims a name which does not resolve; its account lives on one plain port."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self.port = port

    def connect(self, client: Version) -> Wire:
        return Wire(self.proxy, client, host=UNKNOWN_HOST)


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory, confdir: Path) -> Iterator[Lonely]:
    port = unused_port()
    with Proxy(
        tmp_path_factory.mktemp("home"),
        confdir,
        env={"QWEN_API_KEY": FAKE_KEY, "QWEN_API_BASE_URL": f"http://127.0.0.1:{port}/v1"},
        options={"qwen_hosts": UNKNOWN_HOST, "qwen_upstream_timeout_seconds": "2"},
    ) as proxy:
        yield Lonely(proxy, port)


@both_clients
def test_nothing_connects_upstream_before_the_request(lonely: Lonely, client: Version) -> None:
    with FlakyUpstream(lonely.port, lambda *_: ANSWER) as upstream:
        with lonely.connect(client) as wire:
            assert upstream.accepted == 0
            assert last(wire.finish(wire.ask())) == "response.completed"
        assert upstream.accepted == 1


@both_clients
def test_a_refused_connection_is_a_502_and_is_not_remembered(
    lonely: Lonely, client: Version
) -> None:
    with lonely.connect(client) as wire:
        for _ in range(2):
            answer = wire.finish(wire.ask())
            assert answer.status == 502
            assert "account 'QWEN_API_KEY' cannot be reached" in error(answer)["message"]
        with FlakyUpstream(lonely.port, lambda *_: ANSWER):
            assert last(wire.finish(wire.ask())) == "response.completed"


def test_a_connect_that_hangs_is_a_504(lonely: Lonely) -> None:
    with (
        FullBacklog(lonely.port),
        lonely.connect("h1") as one,
        lonely.connect("h2") as other,
    ):
        for wire, answer in [(one, one.ask()), (other, other.ask())]:
            assert wire.finish(answer).status == 504
            assert "QWEN_API_KEY" in error(answer)["message"]


@both_clients
def test_a_client_that_leaves_while_connecting_leaves_the_proxy_serving(
    lonely: Lonely, client: Version
) -> None:
    with FullBacklog(lonely.port), lonely.connect(client) as wire:
        wire.leave(wire.ask())
    with FlakyUpstream(lonely.port, lambda *_: ANSWER), lonely.connect(client) as wire:
        assert last(wire.finish(wire.ask())) == "response.completed"


def test_an_idle_connection_that_the_upstream_closes_under_the_request_is_replaced(
    lonely: Lonely,
) -> None:
    def once_each(_connection: int, request: int) -> bytes | None:
        return ANSWER if request == 0 else None

    with FlakyUpstream(lonely.port, once_each) as upstream, lonely.connect("h1") as wire:
        for _ in range(3):
            assert last(wire.finish(wire.ask())) == "response.completed"
        assert (upstream.accepted, upstream.requests) == (3, 5)


def test_a_request_is_repeated_only_once(lonely: Lonely) -> None:
    def first_alone(connection: int, request: int) -> bytes | None:
        return ANSWER if (connection, request) == (0, 0) else None

    with FlakyUpstream(lonely.port, first_alone) as upstream, lonely.connect("h1") as wire:
        assert last(wire.finish(wire.ask())) == "response.completed"
        answer = wire.finish(wire.ask())
        assert answer.status == 502
        assert "hung up" in error(answer)["message"]
        assert upstream.requests == 3


@both_clients
def test_an_upstream_that_does_not_speak_http_is_a_502(lonely: Lonely, client: Version) -> None:
    with FlakyUpstream(lonely.port, lambda *_: b"220 mail\r\n\r\n"), lonely.connect(client) as wire:
        answer = wire.finish(wire.ask())
        assert answer.status == 502
        assert "QWEN_API_KEY" in error(answer)["message"]


class FullBacklog:
    """A port that accepts no more connections: the next connect hangs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stack = ExitStack()

    def __enter__(self) -> None:
        server = socket.socket()
        self._stack.enter_context(server)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", self._port))
        server.listen(0)
        for _ in range(3):
            waiting = socket.socket()
            self._stack.enter_context(waiting)
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self._port))

    def __exit__(self, *_: object) -> None:
        self._stack.close()


# Bugs of ours ------------------------------------------------------------------------------------

SABOTAGE = """
import qwen_mitm.intake
from qwen_mitm.translate.assembler import Assembler

translate, feed = qwen_mitm.intake.translate, Assembler.feed


def broken_translate(request, **more):
    if request.model == "sim-broken-translation":
        raise RuntimeError("a bug in the translation")
    return translate(request, **more)


def broken_feed(self, parts):
    self.fed = getattr(self, "fed", 0) + 1
    if self._context.echo.model.startswith("sim-long-7") and self.fed == 3:
        raise RuntimeError("a bug in the assembler")
    return feed(self, parts)


qwen_mitm.intake.translate = broken_translate
Assembler.feed = broken_feed


def requestheaders(flow):
    raise RuntimeError("a bug of another script")


request = responseheaders = response = error = requestheaders
"""


@pytest.fixture(scope="module")
def sabotaged(
    simulator_session: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory, confdir: Path
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("sabotage")
    script = folder / "sabotage.py"
    script.write_text(SABOTAGE)
    with Proxy(
        folder,
        confdir,
        env=account_of(simulator_session),
        options=trust(simulator_session),
        scripts=[MAIN, script],
    ) as proxy:
        yield proxy


@both_clients
def test_hooks_of_other_scripts_that_raise_do_no_harm(
    sabotaged: Proxy, simulator: SimulatorProcess, client: Version
) -> None:
    with Wire(sabotaged, client) as wire:
        assert last(wire.finish(wire.ask())) == "response.completed"
    (request,) = simulator.requests(received=1)
    assert request["path"] == "/v1/chat/completions"
    assert CLIENT_KEY not in json.dumps(request)


@both_clients
@pytest.mark.parametrize("stream", [True, False])
def test_a_bug_in_the_translation_is_a_500_and_sends_nothing(
    sabotaged: Proxy, simulator: SimulatorProcess, client: Version, stream: bool
) -> None:
    with Wire(sabotaged, client) as wire:
        answer = wire.finish(wire.ask("sim-broken-translation", stream=stream))
        assert (answer.status, error(answer)["code"]) == (500, "translation_fault")
        assert simulator.requests() == []
        assert last(wire.finish(wire.ask())) == "response.completed"


@both_clients
def test_a_bug_in_the_stream_ends_it_with_response_failed(
    sabotaged: Proxy, simulator: SimulatorProcess, client: Version
) -> None:
    with Wire(sabotaged, client) as wire:
        answer = wire.finish(wire.ask("sim-long-7+paced-100hz"))
        assert last(answer) == "response.failed"
        assert last(wire.finish(wire.ask())) == "response.completed"


def test_only_the_saboteur_crashed(sabotaged: Proxy, lonely: Lonely) -> None:
    assert "mitmproxy has crashed" not in sabotaged.log
    assert "mitmproxy has crashed" not in lonely.proxy.log
    assert "Traceback" not in lonely.proxy.log
