"""Failover scenarios over real sockets: each client protocol towards each upstream protocol."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.conftest import FAKE_KEY, account_of, trust
from tests.e2e.proxy import Proxy
from tests.e2e.wire import CLIENT_KEY, COMMENT, Wire
from tests.event_checker import Event, check_events, events_of
from tests.layer_driver import Version
from tests.layer_peers import Answer

VERSIONS: list[tuple[Version, Version]] = [("h1", "h1"), ("h1", "h2"), ("h2", "h1"), ("h2", "h2")]


@dataclass(frozen=True, slots=True)
class Scene:
    """A client's protocol, and a proxy before an upstream of another."""

    client: Version
    upstream: Version
    proxy: Proxy
    simulator: SimulatorProcess

    @property
    def id(self) -> str:
        return f"{self.client}-{self.upstream}"

    def connect(self) -> Wire:
        return Wire(self.proxy, self.client)

    def received(self, count: int = 1) -> list[dict[str, Any]]:
        """The requests so far; all of them came over the upstream's protocol."""
        requests = self.simulator.requests(received=count)
        assert {r["http_version"] for r in requests} <= {"1.1" if self.upstream == "h1" else "2"}
        return requests


class Stage:
    """The two simulators, each with a patient proxy and a hasty one, started when first needed."""

    def __init__(self, simulators: dict[Version, SimulatorProcess], home: Path, conf: Path) -> None:
        self.simulators = simulators
        self._home = home
        self._conf = conf
        self._proxies: dict[tuple[Version, bool], Proxy] = {}
        self.stack = ExitStack()

    def scene(self, client: Version, upstream: Version, *, hasty: bool = False) -> Scene:
        simulator = self.simulators[upstream]
        simulator.reset()
        if (upstream, hasty) not in self._proxies:
            options = trust(simulator)
            if hasty:
                options |= {
                    "qwen_heartbeat_seconds": "1",
                    "qwen_upstream_timeout_seconds": "3",
                    "qwen_max_body_mb": "1",
                    "stream_large_bodies": "1k",
                }
            proxy = Proxy(self._home, self._conf, env=account_of(simulator), options=options)
            self._proxies[upstream, hasty] = self.stack.enter_context(proxy)
        return Scene(client, upstream, self._proxies[upstream, hasty], simulator)

    def logs(self) -> list[str]:
        return [proxy.log for proxy in self._proxies.values()]


@pytest.fixture(scope="module")
def stage(
    simulator_session: SimulatorProcess,
    simulator_http1_session: SimulatorProcess,
    tmp_path_factory: pytest.TempPathFactory,
    confdir: Path,
) -> Iterator[Stage]:
    simulators: dict[Version, SimulatorProcess] = {
        "h1": simulator_http1_session,
        "h2": simulator_session,
    }
    stage = Stage(simulators, tmp_path_factory.mktemp("home"), confdir)
    with stage.stack:
        yield stage


@pytest.fixture(params=VERSIONS, ids="-".join)
def scene(request: pytest.FixtureRequest, stage: Stage) -> Scene:
    return stage.scene(*request.param)


@pytest.fixture(params=VERSIONS, ids="-".join)
def hasty(request: pytest.FixtureRequest, stage: Stage) -> Scene:
    """Heartbeats after one second, an upstream is given up after three, bodies of one MB."""
    return stage.scene(*request.param, hasty=True)


@pytest.fixture
def scenes(stage: Stage) -> list[Scene]:
    """All of them at once, because these tests take seconds."""
    return [stage.scene(*versions) for versions in VERSIONS]


@pytest.fixture
def hasty_scenes(stage: Stage) -> list[Scene]:
    return [stage.scene(*versions, hasty=True) for versions in VERSIONS]


@pytest.fixture(params=["h1", "h2"])
def multiplexed(request: pytest.FixtureRequest, stage: Stage) -> Scene:
    return stage.scene("h2", request.param)


def events(answer: Answer) -> list[Event]:
    """The events of a whole stream, heartbeats aside; they keep every rule."""
    assert (answer.status, answer.ended, answer.broken) == (200, True, False), answer
    found = events_of(answer.body.replace(COMMENT, b""))
    check_events(found)
    return found


def last(answer: Answer) -> str:
    name: str = events(answer)[-1]["type"]
    return name


def error(answer: Answer) -> dict[str, Any]:
    """The error object of a JSON answer."""
    assert (answer.ended, answer.broken) == (True, False), answer
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = json.loads(answer.body)["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


def outcomes(scenes: list[Scene], count: int) -> list[str]:
    """The outcomes at each of the two simulators, which are the same."""
    first, second = (
        sorted(request["outcome"] for request in scene.simulator.requests(closed=count))
        for scene in scenes[:2]
    )
    assert first == second
    return first


def still_serves(scene: Scene) -> None:
    with scene.connect() as wire:
        assert last(wire.finish(wire.ask())) == "response.completed"


# Regular answers ---------------------------------------------------------------------------------


def test_requests_on_one_connection_are_answered_one_after_the_other(scene: Scene) -> None:
    with scene.connect() as wire:
        for _ in range(4):
            assert last(wire.finish(wire.ask())) == "response.completed"
    requests = scene.received(4)
    headers = {name.lower(): value for name, value in requests[0]["headers"]}
    assert headers["authorization"] == f"Bearer {FAKE_KEY}"
    assert CLIENT_KEY not in json.dumps(requests)
    connections = {request["connection"] for request in requests}
    # mitmproxy uses a connection once when HTTP/2 becomes HTTP/1.1.
    assert len(connections) == (4 if (scene.client, scene.upstream) == ("h2", "h1") else 1)


@pytest.mark.parametrize(
    ("behaviours", "tools", "seen"),
    [
        ("gate-first@1", [], "response.created"),
        ("reasoning+gate-first@2", [], "response.reasoning_text.delta"),
        ("gate-first@2", ["look"], "response.output_item.added"),
    ],
)
def test_an_event_leaves_before_the_next_chunk_exists(
    scene: Scene, behaviours: str, tools: list[str], seen: str
) -> None:
    functions = [{"type": "function", "name": name, "parameters": {}} for name in tools]
    with scene.connect() as wire:
        answer = wire.ask(
            f"sim-{behaviours}",
            input="call:look" if tools else "hello",
            tools=functions,
        )
        scene.simulator.reached("first")
        wire.see(answer, seen)
        assert b"response.completed" not in answer.body
        scene.simulator.release("first")
        assert last(wire.finish(answer)) == "response.completed"


@pytest.mark.parametrize(
    "behaviours",
    [
        "trailers",
        "early-hints",
        "gzip",
        "json-anyway",
        "close",
        "until-close",
        "no-done",
        "reasoning+bytewise",
    ],
)
def test_an_odd_but_whole_answer_is_complete(scene: Scene, behaviours: str) -> None:
    with scene.connect() as wire:
        assert last(wire.finish(wire.ask(f"sim-{behaviours}"))) == "response.completed"
        assert last(wire.finish(wire.ask())) == "response.completed"


@pytest.mark.parametrize("behaviours", ["ok", "sse-anyway", "gzip", "trailers"])
def test_a_client_that_does_not_stream_gets_one_object(scene: Scene, behaviours: str) -> None:
    with scene.connect() as wire:
        answer = wire.finish(wire.ask(f"sim-{behaviours}", stream=False))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    response = json.loads(answer.body)
    assert response["status"] == "completed"
    assert "hello" in response["output"][-1]["content"][0]["text"]


def test_an_upstream_that_never_ends_does_not_hold_the_client(scenes: list[Scene]) -> None:
    with ExitStack() as stack:
        asked = []
        for scene in scenes:
            wire = stack.enter_context(scene.connect())
            asked.append((wire, wire.ask("sim-never-ends")))
        for wire, answer in asked:
            wire.see(answer, "response.completed")
        for wire, answer in asked:
            assert last(wire.finish(answer, 2.5)) == "response.completed"
            assert last(wire.finish(wire.ask())) == "response.completed"
    assert outcomes(scenes, 4) == ["answered"] * 2 + ["cancelled"] * 2


# Failures before an answer -----------------------------------------------------------------------


def test_a_connection_dropped_before_the_head_is_a_502_that_names_the_account(
    scene: Scene,
) -> None:
    with scene.connect() as wire:
        answer = wire.finish(wire.ask("sim-drop-first"))
        assert answer.status == 502
        assert "account" in error(answer)["message"]
        assert last(wire.finish(wire.ask())) == "response.completed"
    scene.received(2)


@pytest.mark.parametrize("behaviours", ["429", "429+close", "429+big-body", "429+endless-body"])
def test_a_refusal_is_passed_on_however_long_it_is(scene: Scene, behaviours: str) -> None:
    with scene.connect() as wire:
        answer = wire.finish(wire.ask(f"sim-{behaviours}+retry-after-7+rate-limits"))
        assert answer.status == 429
        assert "rate limit" in error(answer)["message"]
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert last(wire.finish(wire.ask())) == "response.completed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("behaviours", ["error-first", "empty", "html", "eof-0"])
def test_a_200_that_is_no_answer_gets_a_status_of_its_own(
    scene: Scene, behaviours: str, stream: bool
) -> None:
    if behaviours == "eof-0" and not stream:
        behaviours = "no-choices"
    with scene.connect() as wire:
        answer = wire.finish(wire.ask(f"sim-{behaviours}", stream=stream))
        assert answer.status is not None
        assert answer.status >= 429
        assert error(answer)["message"]
        assert last(wire.finish(wire.ask())) == "response.completed"


# Failures after the answer began -----------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviours", ["drop", "unfinished", "reset", "eof", "cut-utf8", "error-after-text"]
)
def test_an_answer_that_breaks_ends_with_response_failed(scene: Scene, behaviours: str) -> None:
    with scene.connect() as wire:
        answer = wire.finish(wire.ask(f"sim-{behaviours}"))
        assert last(answer) == "response.failed"
        assert last(wire.finish(wire.ask())) == "response.completed"


def test_a_broken_answer_to_a_client_that_does_not_stream_is_a_502(scene: Scene) -> None:
    with scene.connect() as wire:
        answer = wire.finish(wire.ask("sim-drop-1", stream=False))
        assert answer.status == 502
        assert "account" in error(answer)["message"]
        assert last(wire.finish(wire.ask())) == "response.completed"


# The client leaves -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviours", "chunks"),
    [("hold-here", 0), ("gate-here@0", 0), ("gate-here@3", 3), ("429+gate-here@1", 1)],
    ids=["before the head", "before the first event", "in mid-stream", "during the drain"],
)
def test_a_client_that_leaves_cancels_the_upstream_request_at_once(
    scene: Scene, behaviours: str, chunks: int
) -> None:
    with scene.connect() as wire:
        answer = wire.ask(f"sim-{behaviours}")
        scene.simulator.reached("here")
        if chunks == 3:
            wire.see(answer, "output_text.delta")
        left_at = time.time()
        wire.leave(answer)
        (request,) = scene.simulator.requests(closed=1)
        assert request["outcome"] == "cancelled"
        assert request["cancelled_after_chunks"] == chunks
        assert request["closed_at"] - left_at < 1
        if scene.client == "h2":
            assert last(wire.finish(wire.ask())) == "response.completed"
    still_serves(scene)


def test_one_of_three_streams_is_reset_and_the_others_go_on(multiplexed: Scene) -> None:
    scene = multiplexed
    with scene.connect() as wire:
        answers = [wire.ask(f"sim-gate-{name}@3") for name in ("a", "b", "c")]
        for name, answer in zip("abc", answers, strict=True):
            scene.simulator.reached(name)
            wire.see(answer, "output_text.delta")
        wire.leave(answers[1])
        requests = scene.simulator.requests(closed=1)
        assert sorted(r["outcome"] for r in requests) == ["cancelled", "open", "open"]
        scene.simulator.release("a")
        scene.simulator.release("c")
        assert last(wire.finish(answers[0])) == "response.completed"
        assert last(wire.finish(answers[2])) == "response.completed"


def test_a_client_connection_that_is_lost_cancels_all_its_streams(multiplexed: Scene) -> None:
    scene = multiplexed
    with scene.connect() as wire:
        for name in ("a", "b", "c"):
            wire.ask(f"sim-gate-{name}@3")
        for name in ("a", "b", "c"):
            scene.simulator.reached(name)
    outcomes = [r["outcome"] for r in scene.simulator.requests(closed=3)]
    assert outcomes == ["cancelled"] * 3
    still_serves(scene)


# Time --------------------------------------------------------------------------------------------


def test_heartbeats_come_while_the_upstream_is_silent(hasty_scenes: list[Scene]) -> None:
    with ExitStack() as stack:
        waiting = []
        for scene in hasty_scenes:
            wire = stack.enter_context(scene.connect())
            waiting.append((scene, wire, wire.ask(f"sim-hold-{scene.id}+gate-{scene.id}-2@3")))
        for scene, wire, answer in waiting:
            wire.beats(answer, 2)
            assert b"output_text.delta" not in answer.body
            scene.simulator.release(scene.id)
        for scene, wire, answer in waiting:
            wire.see(answer, "output_text.delta")
            wire.beats(answer, answer.body.count(COMMENT) + 1)
            scene.simulator.release(f"{scene.id}-2")
            assert last(wire.finish(answer)) == "response.completed"


def test_an_upstream_that_hangs_is_given_up(hasty_scenes: list[Scene]) -> None:
    with ExitStack() as stack:
        streamed, whole = [], []
        for scene in hasty_scenes:
            for behaviour in ("hang", "hang-after-3"):
                wire = stack.enter_context(scene.connect())
                streamed.append((wire, wire.ask(f"sim-{behaviour}")))
            wire = stack.enter_context(scene.connect())
            whole.append((wire, wire.ask("sim-hang", stream=False)))
        for wire, answer in streamed:
            assert last(wire.finish(answer)) == "response.failed"
            assert last(wire.finish(wire.ask())) == "response.completed"
        for wire, answer in whole:
            assert wire.finish(answer).status == 504
            assert "account" in error(answer)["message"]
            assert last(wire.finish(wire.ask())) == "response.completed"
    assert outcomes(hasty_scenes, 12) == ["answered"] * 6 + ["cancelled"] * 6


def test_a_refusal_that_never_ends_is_passed_on_within_seconds(hasty_scenes: list[Scene]) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        refused = []
        for scene in hasty_scenes:
            wire = stack.enter_context(scene.connect())
            refused.append((wire, wire.ask("sim-429+stuck-body", stream=False)))
        for wire, answer in refused:
            assert wire.finish(answer).status == 429
            assert error(answer)["code"] == "rate_limit_exceeded"
        assert time.monotonic() - began < 8
        for wire, _ in refused:
            assert last(wire.finish(wire.ask())) == "response.completed"
    assert outcomes(hasty_scenes, 4) == ["answered"] * 2 + ["cancelled"] * 2


# Bodies ------------------------------------------------------------------------------------------


def test_stream_large_bodies_does_not_bypass_the_rewriting(hasty: Scene) -> None:
    with hasty.connect() as wire:
        answer = wire.finish(wire.ask(input="a large body " * 1_000))
        assert last(answer) == "response.completed"
    (request,) = hasty.received(1)
    assert request["path"] == "/v1/chat/completions"
    assert "input" not in request["json"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'"' + b"x" * 2**20 + b'"', ()),
        (b'"' + b"x" * 2**20 + b'"', (("transfer-encoding", "chunked"),)),
        (gzip.compress(b" " * 2**21), (("content-encoding", "gzip"),)),
    ],
    ids=["announced", "chunked", "compressed"],
)
def test_a_body_over_the_limit_is_a_413(
    hasty: Scene, body: bytes, fields: tuple[tuple[str, str], ...]
) -> None:
    if hasty.client == "h2" and fields == (("transfer-encoding", "chunked"),):
        fields = ()
    with hasty.connect() as wire:
        answer = wire.finish(wire.post(body, fields=fields))
        assert (answer.status, error(answer)["code"]) == (413, "request_too_large")
        assert last(wire.finish(wire.ask())) == "response.completed"
    assert len(hasty.received(1)) == 1


# Many at once ------------------------------------------------------------------------------------


def text(answer: Answer) -> str:
    assert last(answer) == "response.completed"
    found: str = events_of(answer.body)[-1]["response"]["output"][0]["content"][0]["text"]
    return found


def test_64_streams_of_one_client_connection_progress_together(
    multiplexed: Scene,
) -> None:
    with multiplexed.connect() as wire:
        answers = [wire.ask("sim-gate-64@3", input=f"number {n}") for n in range(64)]
        wire.wait(lambda: all(b"output_text.delta" in answer.body for answer in answers))
        assert not any(answer.ended for answer in answers)
        multiplexed.simulator.release("64")
        wire.wait(lambda: all(answer.ended for answer in answers))
    for number, answer in enumerate(answers):
        assert f"“number {number}”" in text(answer)


def test_200_streams_over_50_connections_finish_right(
    multiplexed: Scene,
) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(multiplexed.connect()) for _ in range(50)]
        asked = [
            (wire, wire.ask("sim-gate-200@3", input=f"number {number}"))
            for number, wire in enumerate(wires * 4)
        ]
        for wire, answer in asked:
            wire.see(answer, "output_text.delta", 30)
        assert not any(answer.ended for _, answer in asked)
        multiplexed.simulator.release("200")
        for number, (wire, answer) in enumerate(asked):
            assert f"“number {number}”" in text(wire.finish(answer, 30))


def test_nothing_of_all_this_crashed_a_proxy(stage: Stage) -> None:
    for log in stage.logs():
        assert "crashed" not in log
        assert "Traceback" not in log
