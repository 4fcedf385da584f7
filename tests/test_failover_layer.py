from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from mitmproxy import http

from qwen_mitm import failover_layer
from qwen_mitm.errors import UpstreamUnreachable
from qwen_mitm.exchange import (
    Broken,
    FailedAnswer,
    Refused,
    Wait,
)
from qwen_mitm.failover_layer import DRAIN_LIMIT_BYTES, DRAIN_LIMIT_TICKS
from qwen_mitm.failover_layer.http2 import JoiningH2Connection
from qwen_mitm.wire.chat import Failure
from tests.layer_driver import FakeGateway, LayerDriver, Version
from tests.layer_exchanges import (
    GIVE_UP,
    FakeExchange,
    FakeRelay,
    drive,
    send,
    without_marks,
)
from tests.layer_peers import Http2Upstream

VERSIONS: list[tuple[Version, Version]] = [("h1", "h1"), ("h1", "h2"), ("h2", "h1"), ("h2", "h2")]
both_sides = pytest.mark.parametrize(("client", "upstream"), VERSIONS)
upstreams = pytest.mark.parametrize("upstream", ["h1", "h2"])

# An answer as it comes ---------------------------------------------------------------------------


@both_sides
def test_pieces_pass_through_the_exchange_as_they_arrive(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts
    assert attempt.complete
    attempt.head(200)
    assert not answer.begun
    attempt.data(b"one")
    assert (answer.status, answer.body) == (200, b"<one>")
    attempt.data(b"two")
    assert answer.body == b"<one><two>"
    attempt.end()
    assert answer.body == b"<one><two>end"
    assert answer.ended
    assert not attempt.cancelled


@both_sides
def test_the_upstream_gets_the_rewritten_request_and_the_flow_no_bearer(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    flows: list[http.HTTPFlow] = []
    driver.on_hook["response"] = flows.append
    driver.request(b"from the client")
    (attempt,) = driver.attempts
    assert attempt.headers["authorization"] == "Bearer fake-a"
    assert attempt.headers[":path"] == "/v1/chat/completions"
    assert attempt.headers["content-length"] == "9"
    assert attempt.headers[":authority" if upstream == "h2" else "host"] == "upstream.test"
    assert attempt.body == b"rewritten"
    attempt.answer(200, b"x")
    (flow,) = flows
    assert "authorization" not in flow.request.headers


@both_sides
def test_nothing_connects_upstream_before_the_request_is_complete(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    assert driver.upstreams == []
    driver.request()
    assert len(driver.upstreams) == 1


@both_sides
def test_an_answer_to_a_client_that_does_not_stream_comes_in_one_piece(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(streams=False), client=client, upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts
    attempt.head(200)
    attempt.data(b"one")
    attempt.data(b"two")
    assert not answer.begun
    attempt.end()
    assert (answer.status, answer.body, answer.ended) == (200, b"[onetwo]", True)
    assert answer.headers["content-length"] == "8"
    assert not attempt.cancelled


@upstreams
def test_empty_data_frames_are_no_end_and_no_event(upstream: Version) -> None:
    driver = drive(FakeExchange(), client="h2", upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts
    attempt.head(200)
    attempt.data(b"")
    attempt.data(b"one")
    attempt.data(b"")
    attempt.data(b"two")
    attempt.end()
    assert (answer.body, answer.ended) == (b"<one><two>end", True)


@both_sides
def test_an_answer_that_is_empty_is_an_outcome(client: Version, upstream: Version) -> None:
    exchange = FakeExchange()
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].end()
    assert isinstance(exchange.outcomes[-1], Broken)
    assert (answer.status, answer.ended) == (502, True)


@both_sides
def test_an_answer_of_comments_alone_is_an_outcome(client: Version, upstream: Version) -> None:
    exchange = FakeExchange(streams=False)
    exchange.offer_end = lambda: False  # type: ignore[method-assign]
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].answer(200, b": thinking")
    assert (answer.status, answer.ended) == (502, True)


@both_sides
def test_a_whole_answer_in_one_segment_ends_regularly(client: Version, upstream: Version) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts

    def everything() -> None:
        attempt.head(200)
        attempt.data(b"one")
        attempt.data(b"DONE")
        attempt.end()

    attempt.upstream.in_one_piece(everything)
    assert (without_marks(answer.body), answer.ended) == (b"oneDONE", True)
    assert not attempt.cancelled


@both_sides
def test_what_follows_the_end_in_the_same_segment_is_dropped(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts

    def everything() -> None:
        attempt.head(200)
        attempt.data(b"one")
        attempt.data(b"DONE")
        attempt.data(b"more")
        attempt.data(b"and more")
        attempt.end()

    attempt.upstream.in_one_piece(everything)
    assert (without_marks(answer.body), answer.ended) == (b"oneDONE", True)
    again = driver.request()
    driver.attempts[1].answer(200, b"two")
    assert again.body == b"<two>end"


@upstreams
def test_what_one_read_brought_is_written_in_one_piece(upstream: Version) -> None:
    driver = drive(FakeExchange(), upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts
    attempt.head(200)
    attempt.data(b"one")

    def several() -> None:
        attempt.data(b"two")
        attempt.data(b"three")

    attempt.upstream.in_one_piece(several)
    assert answer.body == b"<one><twothree>"


@both_sides
def test_the_head_leaves_with_the_first_events(client: Version, upstream: Version) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    driver.request()
    (attempt,) = driver.attempts
    driver.writes.clear()
    attempt.head(200)
    attempt.data(b"one")
    attempt.data(b"two")
    assert [b"<one>" in write for write in driver.writes] == [True, False]


def test_a_request_leaves_in_one_write_unless_it_is_large() -> None:
    driver = drive(FakeExchange([send(body=b"{}")]), FakeExchange([send(body=b"x" * 80_000)]))
    for _ in range(2):
        driver.request()
        driver.attempts[-1].answer(200, b"one")
    small, head, body = driver.upstream_writes
    assert small.endswith(b"\r\n\r\n{}")
    assert head.endswith(b"\r\n\r\n")
    assert body == b"x" * 80_000


def test_frames_of_streams_side_by_side_are_joined_each_with_its_own() -> None:
    driver = drive(FakeExchange(), FakeExchange(), client="h2", upstream="h2")
    answers = [driver.request(), driver.request()]
    first, second = driver.attempts
    for attempt in (first, second):
        attempt.head(200)
        attempt.data(b"one")

    def several() -> None:
        first.data(b"two")
        second.data(b"2")
        first.data(b"three")
        second.data(b"3")
        second.end()
        first.data(b"four")

    first.upstream.in_one_piece(several)
    assert [answer.body for answer in answers] == [b"<one><twothreefour>", b"<one><23>end"]
    assert [answer.ended for answer in answers] == [False, True]


def test_frames_that_are_joined_count_against_the_window_with_all_their_bytes() -> None:
    upstream = H2Connection(H2Configuration(client_side=False))
    proxy = JoiningH2Connection(H2Configuration())
    # mitmproxy's own begins with windows that are never full.
    H2Connection.initiate_connection(proxy)
    request = {":method": "GET", ":path": "/", ":scheme": "https", ":authority": "upstream.test"}
    proxy.send_headers(1, [*request.items()], end_stream=True)
    upstream.initiate_connection()
    upstream.receive_data(proxy.data_to_send())
    upstream.send_headers(1, [(":status", "200")])
    for _ in range(10):
        for _ in range(3):
            upstream.send_data(1, b"x" * 8_000, pad_length=200)
        received = [
            event
            for event in proxy.receive_data(upstream.data_to_send())
            if isinstance(event, DataReceived)
        ]
        assert [len(event.data) for event in received] == [3 * 8_000]
        for event in received:
            proxy.acknowledge_received_data(event.flow_controlled_length, 1)
        upstream.receive_data(proxy.data_to_send())


@upstreams
def test_trailers_of_the_upstream_are_dropped(upstream: Version) -> None:
    driver = drive(FakeExchange(), upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts
    attempt.head(200)
    attempt.data(b"one")
    if isinstance(attempt.upstream, Http2Upstream):
        protocol = attempt.upstream.protocol
        protocol.send_headers(attempt.stream_id, [("x-trailer", "1")], end_stream=True)
        attempt.upstream.flush()
    else:
        attempt.upstream.send(b"0\r\nx-trailer: 1\r\n\r\n")
    assert (answer.body, answer.ended) == (b"<one>end", True)


@pytest.mark.parametrize("cut", [1, 12, 30, 60, 100])
def test_early_hints_before_the_answer_are_skipped_however_they_are_cut(cut: int) -> None:
    driver = drive(FakeExchange())
    answer = driver.request()
    raw = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none"
    )
    driver.upstreams[0].send(raw[:cut])
    driver.upstreams[0].send(raw[cut:])
    assert (answer.body, answer.ended) == (b"<one>end", True)


# Refusals ----------------------------------------------------------------------------------------


@both_sides
def test_a_refusal_reaches_the_addon_with_its_body_and_the_next_attempt_is_made(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([send("a"), send("b")])
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(429, retry_after="7")
    driver.attempts[0].data(b"slow ")
    driver.attempts[0].data(b"down")
    assert len(driver.attempts) == 1
    driver.attempts[0].end()
    (outcome,) = exchange.outcomes[1:]
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.body, outcome.headers["retry-after"]) == (
        429,
        b"slow down",
        "7",
    )
    assert driver.attempts[1].headers["authorization"] == "Bearer fake-b"
    driver.attempts[1].answer(200, b"one")
    assert (answer.status, answer.body, answer.ended) == (200, b"<one>end", True)


@both_sides
def test_a_refusal_without_a_body_is_not_waited_for(client: Version, upstream: Version) -> None:
    exchange = FakeExchange()
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(401, end=True)
    assert isinstance(exchange.outcomes[1], Refused)
    assert (answer.status, answer.ended) == (502, True)


@both_sides
def test_a_retry_reuses_the_connection_where_the_protocol_allows_it(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange([send()] * 3), client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].answer(429, b"no")
    driver.attempts[1].answer(503, b"no")
    driver.attempts[2].answer(200, b"one")
    assert answer.body == b"<one>end"
    # mitmproxy uses a connection once when HTTP/2 becomes HTTP/1.1.
    assert len(driver.upstreams) == (3 if (client, upstream) == ("h2", "h1") else 1)


@both_sides
def test_a_long_refusal_is_cut_and_cancelled(client: Version, upstream: Version) -> None:
    exchange = FakeExchange([send("a"), send("b")])
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(429)
    driver.attempts[0].data(b"x" * (DRAIN_LIMIT_BYTES - 5_000))
    assert not driver.attempts[0].cancelled
    driver.attempts[0].data(b"x" * 10_000)
    assert driver.attempts[0].cancelled
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Refused)
    assert len(outcome.body) == DRAIN_LIMIT_BYTES
    driver.attempts[1].answer(200, b"one")
    assert answer.body == b"<one>end"


@both_sides
def test_a_refusal_that_never_ends_is_read_for_three_seconds(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange()
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(429)
    for _ in range(DRAIN_LIMIT_TICKS):
        assert not answer.begun
        driver.attempts[0].data(b"x")
        driver.tick()
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Refused)
    assert outcome.body == b"xxx"
    assert driver.attempts[0].cancelled
    assert (answer.status, answer.ended) == (502, True)


@both_sides
def test_a_refusal_that_breaks_off_counts_as_far_as_it_came(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange()
    driver = drive(exchange, client=client, upstream=upstream)
    driver.request()
    driver.attempts[0].head(429)
    driver.attempts[0].data(b"slow")
    driver.upstreams[0].lose()
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.body) == (429, b"slow")


@both_sides
def test_an_error_as_first_event_is_a_failed_attempt(client: Version, upstream: Version) -> None:
    exchange = FakeExchange([send("a"), send("b")])
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b": a comment")
    driver.attempts[0].data(b"error")
    assert exchange.outcomes[1] == FailedAnswer(Failure("an error"))
    assert driver.attempts[0].cancelled
    driver.attempts[1].answer(200, b"one")
    assert (answer.status, answer.body) == (200, b"<one>end")


@both_sides
def test_events_of_an_abandoned_attempt_are_ignored(client: Version, upstream: Version) -> None:
    driver = drive(FakeExchange([send("a"), send("b")]), client=client, upstream=upstream)
    driver.held = {"qwen_attempt"}
    answer = driver.request()
    driver.release_hooks()
    driver.held = {"qwen_attempt"}
    first = driver.attempts[0]

    def everything() -> None:
        first.head(200)
        first.data(b"error")
        first.data(b"late")
        first.data(b"later")
        first.end()

    first.upstream.in_one_piece(everything)
    driver.release_hooks()
    driver.attempts[1].answer(200, b"one")
    assert (answer.body, answer.ended) == (b"<one>end", True)


@both_sides
def test_events_of_an_abandoned_attempt_that_waited_behind_a_hook_are_ignored(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([send("a"), send("b")], heartbeat_s=1)
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.held = {"responseheaders"}
    driver.tick()
    first = driver.attempts[0]

    def everything() -> None:
        first.head(200)
        first.data(b"error")
        first.data(b"late")
        first.end()

    first.upstream.in_one_piece(everything)
    driver.release_hooks()
    assert exchange.outcomes[1] == FailedAnswer(Failure("an error"))
    driver.attempts[1].answer(200, b"one")
    assert (answer.body, answer.ended) == (b"beat<one>end", True)


# Connections that fail ---------------------------------------------------------------------------


@both_sides
def test_a_refused_connection_is_an_outcome_and_is_not_remembered(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange()
    driver = drive(exchange, FakeExchange(), client=client, upstream=upstream)
    driver.refused = {("upstream.test", 80)}
    answer = driver.request()
    assert exchange.outcomes[1] == Broken("connection refused", "connect")
    assert (answer.status, answer.ended) == (502, True)
    driver.refused.clear()
    again = driver.request()
    driver.attempts[0].answer(200, b"one")
    assert again.body == b"<one>end"


@both_sides
def test_another_destination_is_tried_after_a_refused_connection(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([send(host="dead.test"), send(host="alive.test")])
    driver = drive(exchange, client=client, upstream=upstream)
    driver.refused = {("dead.test", 80)}
    answer = driver.request()
    driver.attempts[0].answer(200, b"one")
    assert driver.upstreams[0].connection.address == ("alive.test", 80)
    assert answer.body == b"<one>end"


@both_sides
def test_a_connect_that_hangs_is_given_up(client: Version, upstream: Version) -> None:
    exchange = FakeExchange(timeout_s=2)
    driver = drive(exchange, client=client, upstream=upstream)
    driver.connects_hang = True
    answer = driver.request()
    driver.tick()
    assert not answer.begun
    driver.tick()
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.timed_out) == ("connect", True)
    assert (answer.status, answer.ended) == (502, True)
    driver.finish_connects()
    assert driver.attempts == []


@both_sides
def test_a_connection_lost_before_the_head_is_an_outcome(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange()
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.upstreams[0].lose()
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.reused) == ("head", False)
    assert (answer.status, answer.ended) == (502, True)


@upstreams
def test_a_reused_connection_that_is_lost_before_the_head_is_told_so(upstream: Version) -> None:
    exchange = FakeExchange([send(), send()])
    driver = drive(FakeExchange(), exchange, upstream=upstream)
    driver.request()
    driver.attempts[0].answer(200, b"one")
    answer = driver.request()
    assert len(driver.upstreams) == 1
    driver.upstreams[0].lose()
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert outcome.reused
    assert len(driver.upstreams) == 2
    driver.attempts[2].answer(200, b"two")
    assert answer.body == b"<two>end"


@upstreams
def test_a_reused_connection_that_hangs_is_no_stale_one(upstream: Version) -> None:
    exchange = FakeExchange(timeout_s=2)
    driver = drive(FakeExchange(), exchange, upstream=upstream)
    driver.request()
    driver.attempts[0].answer(200, b"one")
    driver.request()
    driver.tick(2)
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert (outcome.timed_out, outcome.reused) == (True, False)


def test_a_stream_that_the_upstream_resets_is_no_stale_connection() -> None:
    exchange = FakeExchange()
    driver = drive(FakeExchange(), exchange, upstream="h2")
    driver.request()
    driver.attempts[0].answer(200, b"one")
    driver.request()
    upstream = driver.upstreams[0]
    assert isinstance(upstream, Http2Upstream)
    upstream.reset(driver.attempts[1])
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.reused) == ("head", False)


@both_sides
def test_a_connection_lost_while_the_first_event_is_awaited_is_an_outcome(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([send("a"), send("b")])
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b": comment")
    driver.upstreams[0].lose()
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert outcome.stage == "answer"
    driver.attempts[1].answer(200, b"one")
    assert answer.body == b"<one>end"


@both_sides
def test_an_upstream_lost_in_mid_stream_gives_last_events_and_a_clean_end(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    driver.upstreams[0].lose()
    assert (answer.body, answer.ended) == (b"<one>broken", True)
    again = driver.request()
    driver.attempts[1].answer(200, b"two")
    assert again.body == b"<two>end"


@both_sides
def test_a_relayed_answer_that_is_lost_breaks_off(client: Version, upstream: Version) -> None:
    driver = drive(FakeRelay(), client=client, upstream=upstream)
    answer = driver.request(path="/v1/models")
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    driver.upstreams[0].lose()
    assert (answer.body, answer.ended, answer.broken) == (b"one", False, True)


@both_sides
@pytest.mark.parametrize("status", [204, 304])
def test_a_relayed_answer_without_a_body_leaves_the_connection_usable(
    client: Version, upstream: Version, status: int
) -> None:
    driver = drive(FakeRelay(), FakeRelay(), client=client, upstream=upstream)
    answer = driver.request(b"", method="DELETE", path="/v1/files/1")
    driver.attempts[0].upstream.head(driver.attempts[0], status, {}, end=False)
    driver.attempts[0].end()
    assert (answer.status, answer.ended) == (status, True)
    again = driver.request(path="/v1/models")
    driver.attempts[1].answer(200, b"two")
    assert (again.body, again.ended) == (b"two", True)


@both_sides
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_relayed_answer_passes_as_it_is(client: Version, upstream: Version, method: str) -> None:
    driver = drive(FakeRelay(), FakeRelay(), client=client, upstream=upstream)
    for number in range(2):
        answer = driver.request(b"" if method != "POST" else b"x", method=method, path="/v1/models")
        (attempt,) = driver.attempts[number:]
        attempt.head(200, content_length="3")
        if method != "HEAD":
            attempt.data(b"one")
        attempt.end()
        assert (answer.status, answer.ended) == (200, True)
        assert answer.body == (b"" if method == "HEAD" else b"one")
        assert answer.headers["content-length"] == "3"


@upstreams
def test_an_idle_connection_that_the_upstream_closed_is_not_used_again(upstream: Version) -> None:
    exchange = FakeExchange()
    driver = drive(FakeExchange(), exchange, upstream=upstream)
    driver.request()
    driver.attempts[0].answer(200, b"one")
    driver.upstreams[0].lose()
    answer = driver.request()
    driver.attempts[1].answer(200, b"two")
    assert answer.body == b"<two>end"
    assert exchange.outcomes == [None]
    assert len(driver.upstreams) == 2


def test_a_client_that_leaves_before_a_stream_is_free_sends_nothing_upstream() -> None:
    driver = drive(*[FakeExchange() for _ in range(3)], client="h2", upstream="h2")
    driver.max_streams = 1
    first = driver.request()
    second = driver.request()
    third = driver.request()
    assert len(driver.attempts) == 1
    driver.leave(second)
    driver.attempts[0].answer(200, b"one")
    assert first.ended
    assert len(driver.attempts) == 2
    driver.attempts[1].answer(200, b"three")
    assert third.body == b"<three>end"


# The client leaves -------------------------------------------------------------------------------


@both_sides
@pytest.mark.parametrize("stage", ["head", "offered", "streaming", "refused", "last bytes"])
def test_a_client_that_leaves_cancels_the_upstream_request(
    client: Version, upstream: Version, stage: str
) -> None:
    driver = drive(FakeExchange(), FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    (attempt,) = driver.attempts
    if stage != "head":
        attempt.head(429 if stage == "refused" else 200)
    if stage not in ("head", "offered"):
        attempt.data(b"DONE" if stage == "last bytes" else b"one")
    driver.leave(answer)
    assert attempt.cancelled
    assert "error" in driver.hooks
    assert "response" not in driver.hooks
    if client == "h2":
        again = driver.request()
        driver.attempts[1].answer(200, b"two")
        assert again.body == b"<two>end"


@both_sides
def test_a_client_that_leaves_while_connecting_sends_nothing_upstream(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    driver.connects_hang = True
    answer = driver.request()
    driver.leave(answer)
    driver.finish_connects()
    assert driver.attempts == []
    assert driver.hooks[-1] == "error"


@both_sides
@pytest.mark.parametrize("hook", ["requestheaders", "request", "qwen_attempt"])
def test_a_client_that_leaves_during_a_hook_sends_nothing_upstream(
    client: Version, upstream: Version, hook: str
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    driver.held = {hook}
    answer = driver.request()
    driver.leave(answer)
    driver.release_hooks()
    assert driver.attempts == []
    assert driver.hooks[-1] == "error"
    assert driver.layer.streams == {}


@both_sides
@pytest.mark.parametrize("hook", ["responseheaders", "response"])
def test_a_client_that_leaves_during_a_hook_of_the_answer_leaves_nothing_behind(
    client: Version, upstream: Version, hook: str
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    driver.held = {hook}
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    if hook == "response":
        driver.attempts[0].end()
    driver.leave(answer)
    driver.release_hooks()
    assert driver.attempts[0].cancelled == (hook == "responseheaders")
    assert driver.layer.streams == {}
    assert driver.layer.active == set()


@both_sides
def test_a_client_that_leaves_while_it_is_to_wait_ends_the_turn(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([Wait(5.5), send()])
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.leave(answer)
    driver.wake()
    assert len(exchange.outcomes) == 1
    assert driver.attempts == []
    assert driver.layer.streams == {}


@both_sides
def test_a_flow_of_a_client_that_left_is_over(client: Version, upstream: Version) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    flows: list[http.HTTPFlow] = []
    driver.on_hook["error"] = flows.append
    driver.leave(driver.request())
    (flow,) = flows
    assert not flow.live


@upstreams
def test_one_of_three_streams_is_reset_and_the_others_go_on(upstream: Version) -> None:
    driver = drive(*[FakeExchange() for _ in range(3)], client="h2", upstream=upstream)
    answers = [driver.request() for _ in range(3)]
    for attempt in driver.attempts:
        attempt.head(200)
        attempt.data(b"one")
    driver.leave(answers[1])
    assert [attempt.cancelled for attempt in driver.attempts] == [False, True, False]
    for number in (0, 2):
        driver.attempts[number].data(b"two")
        driver.attempts[number].end()
    assert answers[0].body == answers[2].body == b"<one><two>end"
    assert answers[1].body == b"<one>"


@upstreams
def test_a_client_connection_that_is_lost_cancels_all_its_streams(upstream: Version) -> None:
    driver = drive(*[FakeExchange() for _ in range(3)], client="h2", upstream=upstream)
    for _ in range(3):
        driver.request()
    driver.hang_up()
    assert [attempt.cancelled for attempt in driver.attempts] == [True, True, True]
    assert driver.layer.streams == {}
    assert driver.layer.active == set()


# Time --------------------------------------------------------------------------------------------


@both_sides
def test_heartbeats_keep_a_waiting_client_before_the_head(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(heartbeat_s=2), client=client, upstream=upstream)
    answer = driver.request()
    driver.tick()
    assert not answer.begun
    driver.tick()
    assert (answer.status, answer.body) == (200, b"beat")
    driver.tick(2)
    driver.attempts[0].answer(200, b"one")
    assert (answer.body, answer.ended) == (b"beatbeat<one>end", True)


@both_sides
def test_heartbeats_come_in_mid_stream_only_when_the_client_got_nothing(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(heartbeat_s=2), client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    driver.tick()
    driver.attempts[0].data(b"two")
    driver.tick()
    assert answer.body == b"<one><two>"
    driver.attempts[0].data(b": the upstream is alive, but the client hears nothing")
    driver.tick()
    assert answer.body == b"<one><two>beat"


def test_an_answer_in_one_piece_has_no_heartbeats() -> None:
    driver = drive(FakeExchange(streams=False, beats=False, heartbeat_s=1))
    answer = driver.request()
    driver.tick(5)
    assert not answer.begun


@both_sides
def test_an_upstream_that_hangs_before_the_head_is_an_outcome(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange(timeout_s=2)
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.tick(2)
    outcome = exchange.outcomes[1]
    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.timed_out) == ("head", True)
    assert driver.attempts[0].cancelled
    assert (answer.status, answer.ended) == (502, True)


@both_sides
def test_an_upstream_that_hangs_after_heartbeats_gives_last_events(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange(timeout_s=3, heartbeat_s=1)
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.tick(3)
    assert (answer.status, answer.body, answer.ended) == (200, b"beatbeatfailed", True)
    assert driver.attempts[0].cancelled


@both_sides
def test_an_upstream_that_hangs_in_mid_stream_gives_last_events(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(timeout_s=2), client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    driver.tick(2)
    assert (answer.body, answer.ended) == (b"<one>broken", True)
    assert driver.attempts[0].cancelled


@both_sides
def test_an_upstream_that_goes_on_after_the_end_is_cut_off(
    client: Version, upstream: Version
) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one DONE")
    assert not answer.ended
    driver.tick()
    assert (answer.body, answer.ended) == (b"<one DONE>", True)
    assert driver.attempts[0].cancelled


@upstreams
def test_an_end_marker_behind_the_last_event_does_not_cost_the_connection(
    upstream: Version,
) -> None:
    driver = drive(FakeExchange(), FakeExchange(), upstream=upstream)
    for number in range(2):
        answer = driver.request()
        driver.attempts[number].head(200)
        driver.attempts[number].data(b"one DONE")
        driver.attempts[number].data(b"marker")
        driver.attempts[number].end()
        assert (answer.body, answer.ended) == (b"<one DONE>", True)
        assert not driver.attempts[number].cancelled
    assert len(driver.upstreams) == 1


@both_sides
def test_seconds_in_which_a_hook_ran_are_not_the_upstreams_silence(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange(timeout_s=5)
    driver = drive(exchange, client=client, upstream=upstream)
    driver.held = {"qwen_attempt"}
    driver.connects_hang = True
    answer = driver.request()
    driver.tick(60)
    driver.release_hooks()
    driver.tick()
    driver.finish_connects()
    assert len(exchange.outcomes) == 1
    driver.attempts[0].answer(200, b"one")
    assert answer.body == b"<one>end"


def test_no_tick_is_asked_for_when_nothing_is_under_way() -> None:
    driver = drive(FakeExchange())
    driver.request()
    driver.attempts[0].answer(200, b"one")
    driver.tick()
    assert driver.wakeups == []


# Waiting and giving up ---------------------------------------------------------------------------


@both_sides
def test_wait_asks_again_later_and_the_client_gets_heartbeats_meanwhile(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([send("a"), Wait(4.5), send("b")], heartbeat_s=2)
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].answer(429, b"no")
    assert [wakeup.delay for wakeup in driver.wakeups if wakeup.delay != 1] == [4.5]
    driver.tick(4)
    assert (answer.body, len(driver.attempts)) == (b"beatbeat", 1)
    driver.wake()
    driver.attempts[1].answer(200, b"one")
    assert (answer.body, answer.ended) == (b"beatbeat<one>end", True)


@both_sides
def test_a_wait_is_no_silence_of_the_upstream(client: Version, upstream: Version) -> None:
    exchange = FakeExchange([Wait(100.5), send()], timeout_s=3)
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.tick(100)
    driver.wake()
    driver.tick(2)
    driver.attempts[0].answer(200, b"one")
    assert answer.body.endswith(b"<one>end")
    assert len(exchange.outcomes) == 2


@both_sides
def test_many_attempts_may_fail_in_many_ways_before_one_succeeds(
    client: Version, upstream: Version
) -> None:
    names = ["a", "b", "c", "d", "e"]
    exchange = FakeExchange([send(name, host=f"{name}.test") for name in names])
    driver = drive(exchange, client=client, upstream=upstream)
    driver.refused = {("c.test", 80)}
    answer = driver.request()
    driver.attempts[0].answer(401, b"no")
    driver.attempts[1].upstream.lose()
    driver.attempts[2].head(200)
    driver.attempts[2].data(b"error")
    driver.attempts[3].answer(200, b"one")
    kinds = [type(outcome).__name__ for outcome in exchange.outcomes[1:]]
    assert kinds == ["Refused", "Broken", "Broken", "FailedAnswer"]
    bearers = [attempt.headers["authorization"] for attempt in driver.attempts]
    assert bearers == [f"Bearer fake-{name}" for name in "abde"]
    assert (answer.body, answer.ended) == (b"<one>end", True)


@upstreams
def test_each_retry_over_http2_takes_a_fresh_stream(upstream: Version) -> None:
    driver = drive(FakeExchange([send()] * 3), client="h2", upstream="h2")
    driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"error")
    driver.attempts[1].answer(500, b"no")
    driver.attempts[2].answer(200, b"one")
    assert [attempt.stream_id for attempt in driver.attempts] == [1, 3, 5]
    assert len(driver.upstreams) == 1


@both_sides
def test_giving_up_after_the_head_left_gives_last_events(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange([send()], heartbeat_s=1)
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.tick()
    driver.attempts[0].answer(503, b"no")
    assert (answer.status, answer.body, answer.ended) == (200, b"beatfailed", True)


@both_sides
def test_giving_up_at_once_answers_json(client: Version, upstream: Version) -> None:
    driver = drive(FakeExchange([GIVE_UP]), client=client, upstream=upstream)
    answer = driver.request()
    assert (answer.status, answer.ended) == (502, True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == UpstreamUnreachable("nobody answers").body()
    assert driver.upstreams == []


# Faults of ours ----------------------------------------------------------------------------------


@both_sides
def test_a_hook_that_decides_nothing_is_answered_with_json(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange()
    exchange.decide = lambda: None  # type: ignore[method-assign]
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    assert (answer.status, answer.ended) == (500, True)
    assert driver.upstreams == []


@both_sides
def test_a_claimed_request_without_an_exchange_never_goes_upstream(
    client: Version, upstream: Version
) -> None:
    driver = drive(client=client, upstream=upstream)
    answer = driver.request(b"from the client")
    assert (answer.status, answer.ended) == (500, True)
    assert answer.headers["content-type"] == "application/json"
    assert driver.upstreams == []


@both_sides
def test_a_head_that_cannot_be_made_is_answered_in_one_piece(
    client: Version, upstream: Version
) -> None:
    exchange = FakeExchange()
    exchange.status, exchange.body = 500, b'{"error": {}}'
    driver = drive(exchange, client=client, upstream=upstream)
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    assert (answer.status, answer.body, answer.ended) == (500, b'{"error": {}}', True)
    assert driver.attempts[0].cancelled


@both_sides
def test_a_killed_flow_is_cancelled_upstream(client: Version, upstream: Version) -> None:
    driver = drive(FakeExchange(), client=client, upstream=upstream)

    def kill(flow: http.HTTPFlow) -> None:
        flow.kill()

    driver.on_hook["responseheaders"] = kill
    answer = driver.request()
    driver.attempts[0].head(200)
    driver.attempts[0].data(b"one")
    assert driver.attempts[0].cancelled
    assert answer.broken
    assert not answer.begun
    assert driver.layer.active == set()


# Bodies and others' requests ---------------------------------------------------------------------


@both_sides
def test_a_body_over_the_limit_is_answered_once_it_is_read(
    client: Version, upstream: Version
) -> None:
    gateway = FakeGateway(FakeExchange(), FakeExchange(), body_limit=100)
    driver = LayerDriver(gateway, client, upstream)
    answer = driver.request(b"x" * 101)
    assert (answer.status, answer.ended) == (413, True)
    assert driver.upstreams == []
    driver.request(b"x" * 100)
    assert driver.attempts[0].complete


@both_sides
def test_requests_to_others_pass_through_the_stock_layer(
    client: Version, upstream: Version
) -> None:
    driver = drive(client=client, upstream=upstream)
    answer = driver.request(b"theirs", host="other.test", path="/x")
    driver.attempts[0].answer(200, b"as it is")
    assert driver.attempts[0].body == b"theirs"
    assert (answer.body, answer.ended) == (b"as it is", True)


def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    driver = drive(FakeExchange())
    answer = driver.request(fields=[("expect", "100-continue")])
    assert answer.informed == [100]
    assert "expect" not in driver.attempts[0].headers
    driver.attempts[0].answer(200, b"one")
    assert answer.body == b"<one>end"


def test_an_http10_client_gets_an_answer_that_ends_with_the_connection() -> None:
    driver = drive(FakeExchange())
    answer = driver.request(version="1.0")
    driver.attempts[0].answer(200, b"one")
    assert "transfer-encoding" not in answer.headers
    assert (answer.body, answer.ended) == (b"<one>end", True)


# Many --------------------------------------------------------------------------------------------


@upstreams
def test_an_http1_client_reuses_one_upstream_connection(upstream: Version) -> None:
    driver = drive(*[FakeExchange() for _ in range(5)], upstream=upstream)
    for number in range(5):
        answer = driver.request()
        driver.attempts[number].answer(200, b"one")
        assert answer.body == b"<one>end"
    assert len(driver.upstreams) == 1


@both_sides
def test_closed_connections_are_forgotten(client: Version, upstream: Version) -> None:
    driver = drive(*[FakeExchange() for _ in range(20)], client=client, upstream=upstream)
    for number in range(20):
        driver.request()
        driver.attempts[number].answer(200, b"one")
        if number % 2:
            driver.attempts[number].upstream.lose()
    assert len(driver.upstreams) >= 10
    # The client's, and those that the next close will sweep away.
    assert len(driver.layer.connections) <= 3


@upstreams
def test_many_streams_of_one_client_connection_progress_together(upstream: Version) -> None:
    count = 64
    driver = drive(*[FakeExchange() for _ in range(count)], client="h2", upstream=upstream)
    answers = [driver.request() for _ in range(count)]
    assert len(driver.attempts) == count
    for attempt in driver.attempts:
        attempt.head(200)
        attempt.data(b"one")
    assert [answer.body for answer in answers] == [b"<one>"] * count
    for attempt in driver.attempts:
        attempt.end()
    assert all(answer.ended for answer in answers)
    assert driver.layer.streams == {}


@upstreams
def test_streams_that_wait_for_one_connect_all_start_when_it_is_made(upstream: Version) -> None:
    count = 100
    driver = drive(*[FakeExchange() for _ in range(count)], client="h2", upstream=upstream)
    driver.connects_hang = True
    answers = [driver.request() for _ in range(count)]
    driver.finish_connects()
    assert len(driver.attempts) == count
    for attempt in driver.attempts:
        attempt.answer(200, b"one")
    assert all(answer.body == b"<one>end" for answer in answers)


def test_this_mitmproxy_has_all_that_the_layer_uses() -> None:
    assert failover_layer.missing_api() == []
