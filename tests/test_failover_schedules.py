"""Random schedules: whatever happens in whatever order, each request comes to its end."""

from __future__ import annotations

import random

import pytest

from qwen_mitm.exchange import Decision, Wait
from tests.layer_driver import LayerDriver, Version
from tests.layer_exchanges import FakeExchange, FakeRelay, drive, send
from tests.layer_peers import Answer, Attempt, Http2Upstream

VERSIONS: list[tuple[Version, Version]] = [("h1", "h1"), ("h1", "h2"), ("h2", "h1"), ("h2", "h2")]
HOOKS = ["requestheaders", "request", "qwen_attempt", "responseheaders", "response", "error"]


class Schedule:
    def __init__(self, seed: int, client: Version, upstream: Version) -> None:
        self.random = random.Random(seed)
        self.client = client
        self.exchanges = [self.exchange() for _ in range(8)]
        self.driver: LayerDriver = drive(*self.exchanges, client=client, upstream=upstream)
        self.asked: list[Answer] = []
        self.left: list[Answer] = []
        self.headed: set[int] = set()
        self.gone = False

    def exchange(self) -> FakeExchange:
        choices: list[Decision] = [send("a"), send("b", host="b.test"), send("c"), Wait(2.5)]
        decisions = [self.random.choice(choices) for _ in range(self.random.randrange(5))]
        if self.random.random() < 0.2:
            relay = FakeRelay(decisions)
            relay.timeout_s = 4
            return relay
        streams = self.random.random() < 0.7
        return FakeExchange(decisions, streams=streams, beats=streams, heartbeat_s=2, timeout_s=4)

    def play(self) -> None:
        for _ in range(self.random.randrange(5, 60)):
            self.step()
        self.come_to_rest()

    def step(self) -> None:
        match self.random.randrange(16):
            case 0 | 1:
                self.ask()
            case 2 | 3 | 4:
                self.driver.tick()
            case 5:
                self.leave()
            case 6:
                self.driver.held.add(self.random.choice(HOOKS))
            case 7:
                self.driver.release_hooks()
            case 8:
                self.driver.connects_hang = True
            case 9:
                self.driver.finish_connects()
            case 10:
                self.driver.refused ^= {("upstream.test", 80)}
            case 11:
                self.driver.wake()
            case _:
                self.upstream_acts()

    def ask(self) -> None:
        busy = any(not (a.ended or a.broken) for a in self.asked)
        if self.gone or len(self.asked) == 8 or (self.client == "h1" and busy):
            return
        if self.driver.client.connected:
            self.asked.append(self.driver.request())

    def leave(self) -> None:
        open_ = [a for a in self.asked if not (a.ended or a.broken or a in self.left)]
        if not open_ or self.gone or not self.driver.client.connected:
            return
        answer = self.random.choice(open_)
        if self.client == "h1" or self.random.random() < 0.1:
            self.gone = True
            self.driver.hang_up()
        else:
            self.left.append(answer)
            self.driver.leave(answer)

    def upstream_acts(self) -> None:
        attempts = [
            a
            for a in self.driver.attempts
            if a.complete and not (a.answered or a.cancelled or a.upstream.closed)
        ]
        if not attempts:
            return
        attempt = self.random.choice(attempts)
        if self.random.random() < 0.3:
            attempt.upstream.in_one_piece(lambda: self.act_often(attempt))
        else:
            self.act(attempt)

    def act_often(self, attempt: Attempt) -> None:
        for _ in range(6):
            self.act(attempt)

    def act(self, attempt: Attempt) -> None:
        if attempt.answered or attempt.cancelled or attempt.upstream.closed:
            return
        choice = self.random.random()
        if choice < 0.05:
            attempt.upstream.lose()
        elif choice < 0.08 and isinstance(attempt.upstream, Http2Upstream):
            attempt.answered = True
            attempt.upstream.reset(attempt)
        elif id(attempt) not in self.headed:
            self.headed.add(id(attempt))
            attempt.head(self.random.choice([200, 200, 200, 429, 503]))
        elif choice < 0.3:
            attempt.end()
        else:
            pieces = [b"one", b"two", b"error", b": comment", b"DONE", b"x" * 70_000]
            attempt.data(self.random.choice(pieces))

    def come_to_rest(self) -> None:
        driver = self.driver
        driver.refused.clear()
        for _ in range(40):
            driver.release_hooks()
            driver.finish_connects()
            driver.tick()
            driver.wake()
            driver.release_hooks()


@pytest.mark.parametrize(("client", "upstream"), VERSIONS)
@pytest.mark.parametrize("block", range(4))
def test_every_schedule_comes_to_its_end(client: Version, upstream: Version, block: int) -> None:
    for seed in range(block * 30, block * 30 + 30):
        schedule = Schedule(seed, client, upstream)
        schedule.play()
        for answer in schedule.asked:
            if answer not in schedule.left and not schedule.gone:
                assert answer.ended or answer.broken, f"seed {seed}"
        for attempt in schedule.driver.attempts:
            over = attempt.answered or attempt.cancelled or attempt.upstream.closed
            assert over, f"seed {seed}"
        assert schedule.driver.layer.streams == {}, f"seed {seed}"
        assert schedule.driver.layer.active == set(), f"seed {seed}"
