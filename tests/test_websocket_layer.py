from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.websocket import WebSocketMessageInjected
from mitmproxy.websocket import WebSocketMessage
from wsproto import ConnectionType
from wsproto import connection as wsproto_connection
from wsproto import events as frames
from wsproto.frame_protocol import CloseReason, Opcode

from qwen_mitm.failover_layer.websocket import MOST_LANES, MOST_WAITING
from tests.layer_driver import Version
from tests.layer_exchanges import GIVE_UP, FakeExchange
from tests.socket_peer import SocketDriver, SocketExchange, event

upstreams = pytest.mark.parametrize("upstream", ["h1", "h2"])


def exchanges(count: int) -> list[SocketExchange]:
    return [SocketExchange() for _ in range(count)]


def types(driver: SocketDriver) -> list[str]:
    return [message["type"] for message in driver.socket.take()]


# The upgrade -------------------------------------------------------------------------------------


def test_the_upgrade_is_answered_here_and_without_compression() -> None:
    driver = SocketDriver()
    assert driver.socket.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"extensions" not in driver.socket.head.lower()
    assert driver.upstreams == []
    assert len(driver.flows["websocket_start"]) == 1


def test_a_message_in_the_same_segment_as_the_upgrade_is_read() -> None:
    client = wsproto_connection.Connection(ConnectionType.CLIENT)
    early = client.send(frames.TextMessage('{"type":"response.create","input":"hi"}'))
    driver = SocketDriver(SocketExchange(), early=early)
    assert len(driver.attempts) == 1


def test_an_upgrade_may_come_after_other_requests_of_its_connection() -> None:
    driver = SocketDriver(SocketExchange(), SocketExchange())
    first = driver.flows["requestheaders"][0]
    driver.create(input="hi")
    driver.attempts[0].answer(200, event(type="one"))
    driver.create(input="hi")
    assert len(driver.attempts) == 2
    assert first.live
    assert first.websocket
    assert first.websocket.messages == []


# Turns -------------------------------------------------------------------------------------------


@upstreams
def test_each_event_of_a_turn_is_a_message_as_soon_as_it_comes(upstream: Version) -> None:
    driver = SocketDriver(SocketExchange(), upstream=upstream)
    driver.create(input="hi")
    (attempt,) = driver.attempts
    assert attempt.complete
    attempt.head(200)
    attempt.data(event(type="one") + event(type="two"))
    assert types(driver) == ["one", "two"]
    attempt.data(event(type="three"))
    assert types(driver) == ["three"]
    attempt.end()
    assert types(driver) == ["end"]
    assert not attempt.cancelled


def test_a_turn_has_a_flow_of_its_own_that_is_the_post_it_stands_for() -> None:
    driver = SocketDriver(SocketExchange())
    driver.create(model="m", input="hi", background=False)
    socket, turn = driver.flows["requestheaders"]
    assert turn is driver.gateway.turns[0]
    assert turn.id != socket.id
    assert (turn.request.method, turn.request.url) == (
        "POST",
        "http://claimed.test/v1/responses?x=1",
    )
    assert json.loads(turn.request.content or b"") == {
        "model": "m",
        "input": "hi",
        "background": False,
        "stream": True,
    }
    assert set(turn.request.headers) == {"host", "user-agent", "content-type", "content-length"}


def test_events_that_the_upstream_cuts_anywhere_stay_whole() -> None:
    driver = SocketDriver(SocketExchange())
    driver.create(input="hi")
    (attempt,) = driver.attempts
    attempt.head(200)
    for byte in event(type="one", text="héllo"):
        attempt.data(bytes([byte]))
    assert driver.socket.take() == [{"type": "one", "text": "héllo"}]


@upstreams
def test_turns_without_a_lane_follow_each_other(upstream: Version) -> None:
    driver = SocketDriver(*exchanges(2), upstream=upstream)
    driver.create(input="first")
    driver.create(input="second")
    (first,) = driver.attempts
    first.answer(200, event(type="one"))
    assert types(driver) == ["one", "end"]
    _, second = driver.attempts
    second.answer(200, event(type="two"))
    assert types(driver) == ["two", "end"]
    assert len(driver.upstreams) == 1


@upstreams
def test_lanes_run_side_by_side_and_their_events_say_which(upstream: Version) -> None:
    driver = SocketDriver(*exchanges(3), upstream=upstream)
    driver.create(input="a", stream_id="left")
    driver.create(input="b", stream_id='ri"ght')
    driver.create(input="c", stream_id="left")
    left, right = driver.attempts
    right.head(200)
    right.data(event(type="one"))
    left.head(200)
    left.data(event(type="two"))
    assert driver.socket.take() == [
        {"stream_id": 'ri"ght', "type": "one"},
        {"stream_id": "left", "type": "two"},
    ]
    left.end()
    assert len(driver.attempts) == 3
    right.end()
    assert [m["stream_id"] for m in driver.socket.take()] == ["left", 'ri"ght']


def test_lanes_share_no_connection_of_http1_and_idle_ones_serve_again() -> None:
    driver = SocketDriver(*exchanges(4))
    for lane in "ab":
        driver.create(stream_id=lane)
    assert len(driver.upstreams) == 2
    for attempt in list(driver.attempts):
        attempt.answer(200, event(type="one"))
    for lane in "cd":
        driver.create(stream_id=lane)
    assert len(driver.upstreams) == 2
    assert len(driver.attempts) == 4


def test_a_turn_does_not_take_the_connection_that_another_waits_for() -> None:
    driver = SocketDriver(*exchanges(2))
    driver.connects_hang = True
    driver.create(stream_id="a")
    driver.create(stream_id="b")
    driver.finish_connects()
    assert len(driver.upstreams) == len(driver.attempts) == 2


def test_a_turn_does_not_take_the_connection_that_a_paused_one_will_use() -> None:
    driver = SocketDriver(SocketExchange(heartbeat_s=1), SocketExchange())
    driver.connects_hang = True
    driver.create(stream_id="a")
    driver.held.add("responseheaders")
    driver.tick()
    driver.finish_connects()
    driver.create(stream_id="b")
    driver.release_hooks()
    assert len(driver.upstreams) == len(driver.attempts) == 2


def test_lanes_share_a_connection_of_http2() -> None:
    driver = SocketDriver(*exchanges(2), upstream="h2")
    driver.create(stream_id="a")
    driver.create(stream_id="b")
    assert len(driver.upstreams) == 1
    assert len(driver.attempts) == 2


def test_a_refused_turn_is_an_error_message_and_the_socket_stays_open() -> None:
    driver = SocketDriver(FakeExchange([GIVE_UP]), SocketExchange())
    driver.create(input="hi", stream_id="a")
    (error,) = driver.socket.take()
    assert error == {
        "stream_id": "a",
        "type": "error",
        "status": 502,
        "error": {
            "type": "server_error",
            "code": "upstream_unreachable",
            "message": "nobody answers",
            "param": None,
        },
    }
    driver.create(input="hi", stream_id="a")
    driver.attempts[0].answer(200, event(type="one"))
    assert types(driver) == ["one", "end"]


def test_a_turn_that_is_killed_by_hand_is_an_error_message() -> None:
    driver = SocketDriver(*exchanges(2))
    driver.on_hook["qwen_attempt"] = lambda _: driver.gateway.turns[0].kill()
    driver.create(input="hi")
    (error,) = driver.socket.take()
    assert (error["type"], error["status"]) == ("error", 502)
    del driver.on_hook["qwen_attempt"]
    driver.create(input="hi")
    assert len(driver.attempts) == 1


def test_a_comment_is_a_ping() -> None:
    driver = SocketDriver(SocketExchange(heartbeat_s=2))
    driver.create(input="hi")
    driver.tick(2)
    assert driver.socket.pings == 1
    driver.tick(2)
    assert driver.socket.pings == 2
    assert driver.socket.messages == []


# Messages that are no turns ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "param"), [("[]", None), ("{", None), ('{"type":"nonsense"}', "type")]
)
def test_a_message_that_says_nothing_usable_is_answered_with_an_error(
    message: str, param: str | None
) -> None:
    driver = SocketDriver(SocketExchange())
    driver.frames(frames.TextMessage(message))
    (error,) = driver.socket.take()
    assert (error["status"], error["error"]["param"]) == (400, param)
    driver.create(input="hi")
    assert len(driver.attempts) == 1


def test_a_binary_message_is_refused_and_the_socket_stays_open() -> None:
    driver = SocketDriver(SocketExchange())
    driver.frames(frames.BytesMessage(b'{"type":"response.create"}'))
    (error,) = driver.socket.take()
    assert error["status"] == 400
    driver.create(input="hi")
    assert len(driver.attempts) == 1


def test_a_message_beyond_the_limit_is_refused_and_not_kept() -> None:
    driver = SocketDriver(SocketExchange(), body_limit=1_000)
    driver.frames(
        *[frames.TextMessage("x" * 600, message_finished=False) for _ in range(5)],
        frames.TextMessage("x"),
    )
    (error,) = driver.socket.take()
    assert (error["status"], error["error"]["code"]) == (413, "request_too_large")
    driver.create(input="hi")
    assert len(driver.attempts) == 1


def test_a_message_in_fragments_is_one_turn() -> None:
    driver = SocketDriver(SocketExchange())
    driver.frames(
        frames.TextMessage('{"type":"response.', message_finished=False),
        frames.Ping(b"amid"),
        frames.TextMessage("", message_finished=False),
        frames.TextMessage('create","input":"hi"}'),
    )
    assert len(driver.attempts) == 1
    assert driver.socket.pongs == [b"amid"]


def test_too_many_waiting_turns_are_refused() -> None:
    driver = SocketDriver(*exchanges(MOST_WAITING + 1))
    for _ in range(MOST_WAITING + 1):
        driver.create(input="hi")
    assert driver.socket.messages == []
    driver.create(input="hi")
    (error,) = driver.socket.take()
    assert (error["status"], error["error"]["code"]) == (429, "too_many_pending_responses")


def test_waiting_turns_are_not_larger_together_than_one_may_be() -> None:
    driver = SocketDriver(*exchanges(3), body_limit=1_000)
    for _ in range(3):
        driver.create(input="x" * 600)
    assert [message["status"] for message in driver.socket.take()] == [429]


def test_too_many_lanes_are_refused() -> None:
    driver = SocketDriver(*exchanges(MOST_LANES))
    for number in range(MOST_LANES + 1):
        driver.create(stream_id=str(number))
    (error,) = driver.socket.take()
    assert (error["status"], error["stream_id"]) == (429, str(MOST_LANES))
    driver.attempts[0].answer(200, event(type="one"))
    driver.gateway.waiting.append(SocketExchange())
    driver.create(stream_id="new")
    assert len(driver.attempts) == MOST_LANES + 1


# Pings and ends ----------------------------------------------------------------------------------


def test_a_ping_is_answered_while_a_turn_runs_and_while_none_does() -> None:
    driver = SocketDriver(SocketExchange())
    driver.frames(frames.Ping(b"1"))
    driver.create(input="hi")
    driver.frames(frames.Ping(b"2"))
    assert driver.socket.pongs == [b"1", b"2"]


def test_a_close_is_answered_with_its_code_and_ends_the_turns() -> None:
    driver = SocketDriver(*exchanges(2))
    driver.create(input="hi", stream_id="a")
    driver.create(input="hi", stream_id="b")
    driver.attempts[0].head(200)
    driver.frames(frames.CloseConnection(4_001, "enough"))
    assert driver.socket.close == frames.CloseConnection(4_001, "enough")
    assert driver.socket.gone
    assert {flow.error.msg for flow in driver.flows["error"] if flow.error} == {
        "Client disconnected."
    }
    (flow,) = driver.flows["websocket_end"]
    assert flow.websocket
    assert (flow.websocket.close_code, flow.websocket.closed_by_client) == (4_001, True)
    assert not flow.live
    assert driver.layer.streams == {}


@upstreams
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_vanishes_cancels_its_turns(upstream: Version, begun: bool) -> None:
    driver = SocketDriver(*exchanges(2), upstream=upstream)
    driver.create(input="hi")
    driver.create(input="never sent")
    if begun:
        driver.attempts[0].head(200)
        driver.attempts[0].data(event(type="one"))
    driver.hang_up()
    assert len(driver.attempts) == 1
    assert driver.attempts[0].cancelled
    assert len(driver.flows["error"]) == len(driver.flows["websocket_end"]) == 1
    (flow,) = driver.flows["websocket_end"]
    assert flow.websocket
    assert flow.websocket.close_code == CloseReason.ABNORMAL_CLOSURE
    assert driver.layer.streams == {}


def test_a_client_that_vanishes_while_an_account_is_chosen_sends_nothing_upstream() -> None:
    driver = SocketDriver(SocketExchange())
    driver.held.add("qwen_attempt")
    driver.create(input="hi")
    driver.hang_up()
    driver.release_hooks()
    assert driver.upstreams == []
    assert len(driver.flows["error"]) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x85\0\0\0\0\xff\xff\xff\xff\xff", CloseReason.INVALID_FRAME_PAYLOAD_DATA),
        (b"\x81\x02{}", CloseReason.PROTOCOL_ERROR),
        (b"\x83\x80\0\0\0\0", CloseReason.PROTOCOL_ERROR),
        (b"\xc1\x80\0\0\0\0", CloseReason.PROTOCOL_ERROR),
    ],
    ids=["no UTF-8", "not masked", "unknown opcode", "compressed"],
)
def test_who_breaks_the_protocol_is_told_so_and_disconnected(data: bytes, code: int) -> None:
    driver = SocketDriver()
    driver.feed(events.DataReceived(driver.client, data))
    assert driver.socket.close
    assert driver.socket.close.code == code
    assert driver.client.state is ConnectionState.CLOSED
    (flow,) = driver.flows["websocket_end"]
    assert flow.websocket
    assert flow.websocket.closed_by_client is False


def test_a_silent_client_is_asked_and_kept_as_long_as_it_answers() -> None:
    driver = SocketDriver()
    for _ in range(3):
        driver.wake()
        driver._flush_client()
    assert driver.socket.pings == 3
    assert driver.client.connected


def test_a_client_that_answers_no_ping_is_disconnected() -> None:
    driver = SocketDriver(SocketExchange())
    driver.create(input="hi")
    driver.socket.answers_pings = False
    driver.wake()
    assert driver.client.connected
    driver.wake()
    assert not driver.client.connected
    assert len(driver.flows["error"]) == 1


def test_a_socket_that_the_addon_does_not_know_is_closed_so_that_the_client_comes_again() -> None:
    driver = SocketDriver(SocketExchange())
    driver.gateway.knows_sockets = False
    driver.create(input="hi")
    assert driver.socket.close
    assert driver.socket.close.code == CloseReason.SERVICE_RESTART
    assert driver.upstreams == []


def test_a_proxy_that_stops_says_so() -> None:
    driver = SocketDriver(SocketExchange())
    driver.create(input="hi")
    driver.client.state = ConnectionState.CLOSED
    driver.feed(events.ConnectionClosed(driver.client))
    assert driver.socket.close
    assert driver.socket.close.code == CloseReason.GOING_AWAY
    assert len(driver.flows["error"]) == len(driver.flows["websocket_end"]) == 1


def test_a_message_injected_by_hand_is_refused_without_harm() -> None:
    driver = SocketDriver(SocketExchange())
    (flow,) = driver.flows["websocket_start"]
    message = WebSocketMessage(Opcode.TEXT, False, b"hi", injected=True)
    driver.feed(WebSocketMessageInjected(flow, message))
    driver.create(input="hi")
    assert len(driver.attempts) == 1
    assert driver.socket.messages == []


# Bytes cut anywhere ------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.tuples(st.text(max_size=40), st.sampled_from([None, "a", "b"]), st.integers(0, 5)),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(said=MESSAGES, cuts=st.lists(st.integers(0, 2_000), max_size=12))
def test_frames_that_are_cut_anywhere_are_the_same_turns(
    said: list[tuple[str, str | None, int]], cuts: list[int]
) -> None:
    client = wsproto_connection.Connection(ConnectionType.CLIENT)
    data = b""
    for text, lane, place in said:
        fields = {} if lane is None else {"stream_id": lane}
        message = json.dumps({"type": "response.create", "input": text, **fields})
        data += client.send(frames.TextMessage(message[:place], message_finished=False))
        data += client.send(frames.Ping(b"p")) + client.send(frames.TextMessage(message[place:]))
    driver = SocketDriver(*exchanges(len(said)))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(places):
        driver.feed(events.DataReceived(driver.client, data[start:end]))
    answered = 0
    while answered < len(driver.attempts):
        driver.attempts[answered].answer(200, event(type="one"))
        answered += 1
    turns = [json.loads(flow.request.content or b"") for flow in driver.gateway.turns]
    assert sorted(turn["input"] for turn in turns) == sorted(text for text, _, _ in said)
    assert types(driver) == ["one", "end"] * len(said)
    assert driver.socket.pongs == [b"p"] * len(said)
