import json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.exchange import Broken, FailedAnswer
from qwen_mitm.inspection.record import (
    MOST_TIMES,
    pack,
    read_record,
    record_of,
    refused,
    unpack,
)
from qwen_mitm.wire.chat import Failure
from tests.inspection.turns import (
    KEY,
    Clock,
    a_turn,
    a_whole_turn,
    answers,
    body,
    fails,
    send,
)
from tests.translate.answers import DONE, text, usage


def test_a_turn_is_recorded_with_its_attempts_and_figures() -> None:
    turn, answer = a_whole_turn()
    record = record_of(turn)

    assert [(a.account, a.provider, a.status) for a in record.attempts] == [
        ("work", "coding-plan", 429),
        ("home", "coding-plan", 200),
    ]
    first, second = record.attempts
    assert (first.sent_s, first.ended_s) == (0.0, 0.25)
    assert "slow down, (the account's key)" in first.error_body
    assert second.head_s == record.first_token_s == 0.42
    assert record.tokens
    assert (record.tokens.input, record.tokens.output) == (41_234, 812)
    assert record.losses == [("dropped_tool", "web_search")]
    assert [(tool.flat, tool.namespace, tool.name) for tool in record.tools] == [
        ("mcp__read_file", "mcp", "read.file")
    ]
    assert record.times[-1][0] == len(answer)
    assert record.status == "completed"


def test_a_record_passes_through_a_flow_and_has_no_key() -> None:
    turn, _ = a_whole_turn()
    record = record_of(turn)
    metadata = json.loads(json.dumps(record.as_metadata()))

    assert read_record(metadata) == record
    assert KEY not in json.dumps(metadata)
    assert KEY not in turn.said_upstream().decode()


def test_an_error_in_an_answer_is_kept_without_its_key() -> None:
    turn = a_turn(Clock())
    send(turn, "work")
    turn.head(200, ())
    turn.offer(f'data: {{"error":{{"message":"no such key: {KEY}"}}}}\n\n'.encode())
    fails(turn, FailedAnswer(Failure(f"no such key: {KEY}")))

    (attempt,) = record_of(turn).attempts
    assert attempt.failure == "no such key: (the account's key)"
    assert "no such key: (the account's key)" in attempt.error_body
    assert KEY not in str(attempt)


def test_a_lost_connection_is_kept_as_it_was_told() -> None:
    turn = a_turn(Clock())
    send(turn, "work")
    fails(turn, Broken("nobody is there", "connect"))
    (attempt,) = record_of(turn).attempts
    assert (attempt.failure, attempt.status) == ("nobody is there", None)


def test_many_times_are_thinned_out_and_the_last_one_stays() -> None:
    clock = Clock()
    turn = a_turn(clock)
    send(turn, "work")
    pieces = [text(f"{n} ") for n in range(3 * MOST_TIMES)]
    answer = answers(turn, clock, [*pieces, text("", "stop"), usage(), DONE])
    times = record_of(turn).times
    assert len(times) <= MOST_TIMES
    assert times[-1][0] == len(answer)
    assert times == sorted(times)


def test_a_client_that_does_not_stream_has_no_times_of_events() -> None:
    turn = a_turn(Clock(), body(stream=False))
    assert record_of(turn).times == []


def test_bodies_are_packed_and_shown_by_their_size() -> None:
    packed = pack(b"word " * 1_000)
    assert unpack(packed) == b"word " * 1_000
    assert len(packed) < 500
    assert repr(packed) == f"<{len(packed):,} bytes, packed>"


def test_what_is_no_packed_body_is_none() -> None:
    assert [unpack(found) for found in (None, "text", b"", b"no such thing", b"\0" * 40)] == [
        b""
    ] * 5


def test_what_is_no_record_is_none() -> None:
    assert read_record("text") is None
    assert read_record({"attempts": 5}) is None


def test_a_refusal_is_a_record() -> None:
    record = refused(InvalidRequest("no such thing", param="input[0]"))
    assert record.failed
    assert record.refusal
    assert (record.refusal.status, record.refusal.param) == (400, "input[0]")
