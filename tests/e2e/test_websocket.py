"""WebSocket mode through a real mitmdump, by the official client and by hand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.io import FlowReader
from websockets import CloseCode
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from qwen_mitm.inspection.dashboard import FAILED
from qwen_mitm.inspection.record import unpack
from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import check_chat
from tests.e2e.accounts import AccountsOfTest, accounts_of, chats, leaks, log_of, wait_until
from tests.e2e.clients import CLIENT_KEY, Way, error_of, text_of
from tests.e2e.conftest import FAKE_KEY, StartProxy, account_of, trust
from tests.e2e.proxy import MAIN, Proxy
from tests.e2e.talk import Talk, socket_options
from tests.event_checker import check_events

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="session", params=["regular", "reverse"])
def way(request: pytest.FixtureRequest, proxy: Proxy, reverse_proxy: Proxy) -> Way:
    return Way(proxy) if request.param == "regular" else Way(reverse_proxy, reverse=True)


@pytest.fixture
def talk(way: Way) -> Iterator[Talk]:
    started = Talk(way)
    with started.socket:
        yield started
    log_of(way.proxy)


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as started:
        yield started


# Turns -------------------------------------------------------------------------------------------


def test_the_official_client_has_several_turns_on_one_connection(
    way: Way, simulator: SimulatorProcess
) -> None:
    options: Any = socket_options(way)
    with (
        way.openai() as client,
        client.responses.connect(websocket_connection_options=options) as connection,
    ):
        previous = None
        for said in ("one", "two", "three"):
            connection.response.create(
                model="qwen3-coder-plus", input=said, store=False, previous_response_id=previous
            )
            events, event = [], None
            while event is None or event.type != "response.completed":
                data = connection.recv_bytes()
                events.append(json.loads(data))
                event = connection.parse_event(data)
            check_events(events)
            previous = event.response.id

    last = simulator.requests(received=3)[-1]["json"]
    check_chat(last)
    assert [message["content"] for message in last["messages"][::2]] == ["one", "two", "three"]


def test_events_arrive_while_the_upstream_is_still_speaking(
    talk: Talk, simulator: SimulatorProcess
) -> None:
    talk.create(model="sim-gate-first@3")
    simulator.reached("first")
    while talk.hear()["type"] != "response.output_text.delta":
        pass
    simulator.release("first")
    while talk.hear()["type"] != "response.completed":
        pass


def test_a_warm_up_asks_nobody_and_can_be_built_on(talk: Talk, simulator: SimulatorProcess) -> None:
    developer = {"type": "message", "role": "developer", "content": "Be brief."}
    warm = talk.turn([developer], generate=False, store=False, stream=True)
    assert (warm["status"], warm["output"]) == ("completed", [])
    assert simulator.requests() == []
    talk.turn("hello", previous_response_id=warm["id"], store=False)
    (received,) = simulator.requests(received=1)
    check_chat(received["json"])
    assert [m["content"] for m in received["json"]["messages"]] == ["Be brief.", "hello"]


def test_a_warm_up_may_say_nothing_at_all(talk: Talk) -> None:
    warm = talk.turn([], generate=False)
    assert talk.turn("hello", previous_response_id=warm["id"])["status"] == "completed"


def test_what_is_not_stored_is_known_to_its_own_connection_alone(way: Way, talk: Talk) -> None:
    kept = talk.turn("hello", store=False)
    assert talk.turn("more", store=False, previous_response_id=kept["id"])["output"]
    other = Talk(way)
    with other.socket:
        refused = other.refused("more", previous_response_id=kept["id"])
    assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
    with way.http() as client:
        assert client.get(f"/responses/{kept['id']}").status_code == 404


def test_what_is_stored_can_be_continued_by_post(way: Way, talk: Talk) -> None:
    kept = talk.turn("hello")
    with way.openai() as client:
        answer = client.responses.create(
            model="qwen3-coder-plus", input="more", previous_response_id=kept["id"]
        )
    assert answer.status == "completed"


def test_a_refused_turn_is_told_what_a_post_is_and_leaves_the_connection_as_it_was(
    way: Way, talk: Talk
) -> None:
    first = talk.turn("hello", store=False)
    assert talk.refused(5)["error"]["param"] == "input"
    assert talk.refused(background=True)["error"]["param"] == "background"
    limited = talk.refused(model="sim-429+retry-after-2")
    with way.http() as client:
        body = {"model": "sim-429+retry-after-2", "input": "hello there"}
        posted = client.post("/responses", json=body)
    assert (limited["status"], limited["headers"]["retry-after"]) == (429, "2")
    assert limited["error"].items() >= error_of(posted).items()
    assert talk.refused(model="sim-502")["status"] == 502
    assert talk.turn("more", store=False, previous_response_id=first["id"])["output"]


def test_an_answer_that_breaks_off_ends_with_an_event(talk: Talk) -> None:
    assert talk.turn(model="sim-drop-3")["status"] == "failed"
    assert talk.turn()["status"] == "completed"


def test_two_lanes_run_side_by_side(talk: Talk, simulator: SimulatorProcess) -> None:
    talk.create("hello", model="sim-gate-lane@3", stream_id="slow")
    simulator.reached("lane")
    talk.create("hello", stream_id="fast")
    events: list[Any] = []
    while not events or events[-1]["type"] != "response.completed":
        events.append(talk.hear())
    assert events[-1]["stream_id"] == "fast"
    simulator.release("lane")
    while sum(event["type"] == "response.completed" for event in events) < 2:
        events.append(talk.hear())
    for lane in ("slow", "fast"):
        check_events([e for e in events if e["stream_id"] == lane])


def test_a_turn_that_waits_for_another_is_sent_when_that_has_ended(
    talk: Talk, simulator: SimulatorProcess
) -> None:
    talk.create(model="sim-gate-wait@3")
    talk.create("second")
    simulator.reached("wait")
    assert len(simulator.requests()) == 1
    simulator.release("wait")
    first, second = talk.events(), talk.events()
    assert first[-1]["response"]["id"] != second[-1]["response"]["id"]
    assert len(simulator.requests(received=2)) == 2


def test_a_message_of_some_megabytes_is_a_turn(talk: Talk, simulator: SimulatorProcess) -> None:
    said = "ü" * 2_000_000
    assert talk.turn(said)["status"] == "completed"
    (received,) = simulator.requests(received=1)
    assert received["json"]["messages"][0]["content"] == said


def test_a_turn_fails_over_to_the_next_account(
    start_proxy: StartProxy, accounts: AccountsOfTest, simulator: SimulatorProcess
) -> None:
    accounts.write(accounts.key("a"), accounts.key("b"))
    simulator.script([{"behaviour": "429+retry-after-60", "bearer": "fake-key-a", "times": None}])
    options = accounts.options | {"qwen_rotation_strategy": "sequential"}
    proxy = start_proxy(env=accounts.env, options=options)
    talk = Talk(Way(proxy))
    with talk.socket:
        assert talk.turn()["status"] == "completed"
        assert talk.turn()["status"] == "completed"
    asked = [request["account"] for request in chats(simulator)]
    assert asked == ["a", "b", "b"]
    assert proxy.wait_for_count("account b", 2).count("1 failover") == 1
    assert leaks(log_of(proxy)) == set()


# The connection ----------------------------------------------------------------------------------


async def test_a_ping_is_answered_and_a_close_has_its_code_back(way: Way) -> None:
    # The client with threads may miss the last frame over TLS.
    url = f"{way.base_url.replace('http', 'ws', 1)}/responses"
    async with connect(url, **socket_options(way)) as opened:
        assert opened.response
        assert "content-length" not in opened.response.headers
        for _ in range(2):
            await asyncio.wait_for(await opened.ping(), 5)
            await opened.send('{"type":"response.create","model":"qwen3-coder-plus","input":"hi"}')
            while '"response.completed"' not in str(await opened.recv()):
                pass
        await opened.close(4_001, "enough")
        assert (opened.close_code, opened.close_reason) == (4_001, "enough")


def test_heartbeats_are_pings(start_proxy: StartProxy, simulator: SimulatorProcess) -> None:
    options = trust(simulator) | {"qwen_heartbeat_seconds": "1"}
    talk = Talk(Way(start_proxy(env=account_of(simulator), options=options)))
    with talk.socket:
        response = talk.turn(model="sim-silent-head-3")
    assert response["status"] == "completed"


@pytest.mark.parametrize("hasty", [False, True], ids=["close", "vanish"])
@pytest.mark.parametrize("model", ["sim-hang-after-3", "sim-hang"])
def test_a_client_that_leaves_in_mid_turn_cancels_the_request_upstream(
    way: Way, simulator: SimulatorProcess, hasty: bool, model: str
) -> None:
    talk = Talk(way)
    talk.create(model=model)
    simulator.requests(received=1)
    if model != "sim-hang":
        while talk.hear()["type"] != "response.output_text.delta":
            pass
    if hasty:
        # Nothing else closes a socket that a thread reads from.
        talk.socket.socket.shutdown(socket.SHUT_RDWR)
    else:
        talk.socket.close()
    (received,) = simulator.requests(closed=1)
    assert received["outcome"] == "cancelled"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://page.test"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"},
    ],
    ids=["origin", "cross-site", "own port"],
)
def test_a_web_page_opens_no_socket(
    way: Way, simulator: SimulatorProcess, headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Talk(way, headers)
    assert refused.value.response.status_code == 401
    assert simulator.requests() == []


def test_a_socket_needs_the_local_key(start_proxy: StartProxy, simulator: SimulatorProcess) -> None:
    proxy = start_proxy(
        mode="reverse:https://portal.qwen.ai",
        env={**account_of(simulator), "QWEN_LOCAL_KEY": "fake-local-key"},
        options=trust(simulator),
    )
    way = Way(proxy, reverse=True)
    for headers in ({}, {"authorization": f"Bearer {CLIENT_KEY}"}):
        with pytest.raises(InvalidStatus) as refused:
            Talk(way, headers)
        assert refused.value.response.status_code == 401
    talk = Talk(way, {"authorization": "Bearer fake-local-key", "origin": "https://page.test"})
    with talk.socket:
        assert talk.turn()["status"] == "completed"


@pytest.mark.parametrize("mode", [None, "reverse:https://portal.qwen.ai"])
def test_a_proxy_that_stops_ends_its_sockets(
    start_proxy: StartProxy, simulator: SimulatorProcess, mode: str | None
) -> None:
    proxy = start_proxy(env=account_of(simulator), options=trust(simulator), mode=mode)
    with ExitStack() as stack:
        talks = [Talk(Way(proxy, reverse=mode is not None)) for _ in range(2)]
        for talk in talks:
            stack.enter_context(talk.socket)
        talks[0].create(model="sim-hang-after-3")
        simulator.requests(received=1)
        assert proxy.stop() == 0
        for talk in talks:
            with pytest.raises(ConnectionClosed):
                list(iter(talk.hear, None))
            assert talk.socket.close_code == CloseCode.GOING_AWAY
    assert simulator.requests(closed=1)[0]["outcome"] == "cancelled"


def test_a_socket_that_outlives_a_reload_is_closed_so_that_the_client_comes_again(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    script = tmp_path / "main.py"
    text = MAIN.read_text("utf-8")
    script.write_text(f"import sys\nsys.path.insert(0, {str(MAIN.parent)!r})\n{text}", "utf-8")
    proxy = start_proxy(env=account_of(simulator), options=trust(simulator), scripts=[script])
    before = Talk(Way(proxy))
    with before.socket:
        assert before.turn()["status"] == "completed"
        changed = script.stat().st_mtime + 10
        os.utime(script, (changed, changed))
        proxy.wait_for_count("qwen-mitm rewrites", 2)
        before.create()
        with pytest.raises(ConnectionClosed):
            before.hear()
        assert before.socket.close_code == CloseCode.SERVICE_RESTART
    again = Talk(Way(proxy))
    with again.socket:
        assert again.turn()["status"] == "completed"
    log_of(proxy)


# What is seen of it ------------------------------------------------------------------------------


def saved_flows(path: Path) -> list[http.HTTPFlow]:
    with path.open("rb") as file:
        return [flow for flow in FlowReader(file).stream() if isinstance(flow, http.HTTPFlow)]


def test_each_turn_is_a_flow_and_nothing_secret_is_in_any(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    flows, har = tmp_path / "flows.mitm", tmp_path / "flows.har"
    proxy = start_proxy(
        env=account_of(simulator),
        options={**trust(simulator), "hardump": str(har), "flow_detail": "4"},
        arguments=["-w", str(flows), "-v"],
    )
    key = {
        "authorization": f"Bearer {CLIENT_KEY}",
        "sec-websocket-protocol": f"realtime, openai-insecure-api-key.{CLIENT_KEY}",
    }
    talk = Talk(Way(proxy), key)
    with talk.socket:
        response = talk.turn("hello there")
        talk.refused(model="sim-401")
    wait_until(lambda: "WebSocket connection closed" in proxy.log)
    assert proxy.stop() == 0

    opened, turn, refused = sorted(saved_flows(flows), key=lambda f: f.request.timestamp_start)
    assert opened.websocket
    assert opened.websocket.messages == []
    assert (opened.websocket.close_code, opened.comment) == (1_000, "WebSocket · 2 turns")
    assert turn.request.path == "/v1/chat/completions"
    assert json.loads(turn.request.content or b"")["messages"]
    assert turn.response
    assert text_of(response) in (turn.response.text or "").replace("\\n", "\n")
    assert re.match(r"qwen3-coder-plus · ~?\d+ in", turn.comment)
    assert turn.metadata["qwen"]["status"] == "completed"
    assert b"[DONE]" in unpack(turn.metadata["qwen_bodies"]["upstream"])
    assert refused.marked == FAILED
    assert refused.response
    assert refused.response.status_code == 401
    written = flows.read_bytes().decode("latin-1") + har.read_text("utf-8") + log_of(proxy)
    assert [secret for secret in (FAKE_KEY, CLIENT_KEY) if secret in written] == []
