"""Random schedules on a WebSocket: whatever happens in whatever order, each turn has its end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy.proxy import events
from wsproto import ConnectionType
from wsproto import connection as wsproto_connection
from wsproto import events as frames

from qwen_mitm.exchange import Decision, Wait
from qwen_mitm.failover_layer.websocket import Socket
from tests.layer_driver import Version
from tests.layer_exchanges import send
from tests.socket_peer import SocketDriver, SocketExchange
from tests.test_failover_schedules import Schedule


class SocketSchedule(Schedule):
    def __init__(self, seed: int, upstream: Version) -> None:
        self.random = random.Random(seed)
        self.client = "h1"
        self.driver = self.sockets = SocketDriver(
            *[self.exchange() for _ in range(8)], upstream=upstream
        )
        self.created = 0
        self.headed = set()
        self.gone = False

    def exchange(self) -> SocketExchange:
        choices: list[Decision] = [send("a"), send("b", host="b.test"), send("c"), Wait(2.5)]
        decisions = [self.random.choice(choices) for _ in range(self.random.randrange(5))]
        return SocketExchange(decisions, heartbeat_s=2, timeout_s=4)

    def ask(self) -> None:
        if self.created < 8 and not self.gone:
            self.created += 1
            self.sockets.create(stream_id=self.random.choice([None, "a", "b", "c"]))

    def leave(self) -> None:
        if self.gone or self.random.random() < 0.5:
            return
        self.gone = True
        if self.random.random() < 0.5:
            self.sockets.frames(frames.CloseConnection(1_000))
        self.driver.hang_up()


@pytest.mark.parametrize("upstream", ["h1", "h2"])
@pytest.mark.parametrize("block", range(4))
def test_every_schedule_comes_to_its_end(upstream: Version, block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        schedule = SocketSchedule(seed, upstream)
        schedule.play()
        driver = schedule.sockets
        socket = driver.layer.connections[driver.client]
        assert isinstance(socket, Socket)
        assert socket.answers == {}, f"seed {seed}"
        assert socket.lanes == {}, f"seed {seed}"
        assert socket.ended == schedule.gone, f"seed {seed}"
        if not schedule.gone:
            assert len(driver.gateway.turns) == schedule.created, f"seed {seed}"
        for attempt in driver.attempts:
            over = attempt.answered or attempt.cancelled or attempt.upstream.closed
            assert over, f"seed {seed}"
        assert driver.layer.streams == {}, f"seed {seed}"
        assert driver.layer.active == set(), f"seed {seed}"


FRAMES = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=20).map(
        lambda data: wsproto_connection.Connection(ConnectionType.CLIENT).send(
            frames.BytesMessage(data)
        )
    ),
    st.text(max_size=20).map(
        lambda text: wsproto_connection.Connection(ConnectionType.CLIENT).send(
            frames.TextMessage(text)
        )
    ),
    # A head that fits its place: opcode, length, mask.
    st.tuples(st.integers(0, 255), st.integers(128, 255), st.binary(max_size=20)).map(
        lambda head: bytes(head[:2]) + head[2]
    ),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(FRAMES, max_size=6))
def test_no_bytes_of_a_client_do_more_than_end_its_connection(data: list[bytes]) -> None:
    driver = SocketDriver()
    for piece in data:
        if driver.client.connected:
            driver.feed(events.DataReceived(driver.client, piece))
    assert len(driver.flows["websocket_end"]) == (not driver.client.connected)
    assert driver.upstreams == []
    if driver.client.connected:
        driver.hang_up()
        assert len(driver.flows["websocket_end"]) == 1
