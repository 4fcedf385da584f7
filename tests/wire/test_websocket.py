from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.errors import InvalidRequest, UpgradeRefused
from qwen_mitm.wire.responses import parse_request
from qwen_mitm.wire.sse import DONE, KEEP_ALIVE, encode_event
from qwen_mitm.wire.websocket import (
    Create,
    EventMessages,
    error_message,
    read_message,
    refusal_message,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def created(**fields: object) -> dict[str, Any]:
    """The body of the POST that such a message stands for."""
    create = read_message(json.dumps({"type": "response.create", **fields}).encode())
    assert isinstance(create, Create)
    body = json.loads(create.body)
    assert isinstance(body, dict)
    return body


def error_of(message: object) -> dict[str, Any]:
    assert isinstance(message, bytes)
    event = json.loads(message)
    assert event["type"] == "error"
    assert isinstance(event, dict)
    return event


def test_a_create_becomes_the_body_of_a_streamed_request() -> None:
    assert created(model="m", input=[], background=False, stream=False) == {
        "model": "m",
        "input": [],
        "background": False,
        "stream": True,
    }


def test_the_lane_is_no_part_of_the_request() -> None:
    create = read_message(b'{"type":"response.create","stream_id":"a","input":"hi"}')
    assert create == Create(b'{"input":"hi","stream":true}', "a")


def test_a_prewarmed_cache_means_that_nothing_is_generated() -> None:
    options = {"prewarm": True, "ttl": "30m"}
    assert created(prompt_cache_options=options)["generate"] is False
    assert "generate" not in created(prompt_cache_options={"prewarm": False})


def test_a_number_that_is_none_is_refused_as_in_a_post() -> None:
    create = read_message(b'{"type":"response.create","model":"m","input":"x","temperature":NaN}')
    assert isinstance(create, Create)
    with pytest.raises(InvalidRequest, match="temperature"):
        parse_request(create.body)


def test_half_a_surrogate_pair_is_replaced() -> None:
    create = read_message(b'{"type":"response.create","input":"\\ud83d"}')
    assert isinstance(create, Create)
    assert json.loads(create.body)["input"] == "\ufffd"


@pytest.mark.parametrize("stream_id", [5, "x" * 257, ["a"]])
def test_a_lane_that_is_no_short_string_is_refused(stream_id: object) -> None:
    message = {"type": "response.create", "stream_id": stream_id}
    assert error_of(read_message(json.dumps(message).encode()))["error"]["param"] == "stream_id"


def test_the_error_for_an_unknown_type_names_it_and_its_lane() -> None:
    event = error_of(read_message(b'{"type":"response.sing","stream_id":"a"}'))
    assert (event["status"], event["stream_id"]) == (400, "a")
    assert event["error"]["type"] == "invalid_request_error"
    assert "'response.sing'" in event["error"]["message"]


def test_steering_fails_and_gives_the_input_back() -> None:
    steered = {"type": "response.steer", "previous_response_id": "resp_1", "input": "stop"}
    answer = read_message(json.dumps(steered).encode())
    assert isinstance(answer, bytes)
    event = json.loads(answer)
    assert event["type"] == "response.steer.failed"
    assert event["error"]["code"] == "steering_not_supported"
    assert event["steer"] == {"previous_response_id": "resp_1", "input": "stop"}


def test_a_notice_needs_no_answer() -> None:
    assert read_message(b'{"type":"response.processed","response_id":"resp_1"}') is None


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_message_is_a_turn_or_is_answered_with_an_event(text: bytes) -> None:
    match read_message(text):
        case Create(body):
            assert json.loads(body)["stream"] is True
        case bytes(answer):
            assert json.loads(answer)["type"] in ("error", "response.steer.failed")


@given(JSON, st.sampled_from(["type", "stream_id", "prompt_cache_options", "input"]))
def test_any_value_in_any_place_is_read_without_an_exception(value: object, name: str) -> None:
    message = {"type": "response.create", name: value}
    assert read_message(json.dumps(message).encode()) is not None or name == "type"


# Events ------------------------------------------------------------------------------------------


@given(
    st.lists(st.text(max_size=10), max_size=5),
    st.sampled_from([None, "a", 'b"']),
    st.lists(st.integers(0, 400), max_size=5),
)
def test_each_event_is_one_message_wherever_the_stream_is_cut(
    texts: list[str], stream_id: str | None, cuts: list[int]
) -> None:
    sent = [{"type": "x", "text": text} for text in texts]
    stream = KEEP_ALIVE.join(encode_event("x", json.dumps(e).encode()) for e in sent) + DONE
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = EventMessages(stream_id)
    got = [
        json.loads(message)
        for start, end in zip(places, [*places[1:], len(stream)], strict=True)
        for message in reader.feed(stream[start:end])
    ]
    lane = {} if stream_id is None else {"stream_id": stream_id}
    assert got == [lane | event for event in sent]


# Errors ------------------------------------------------------------------------------------------


def test_a_refusal_is_the_error_that_a_post_would_have_got() -> None:
    error = {"message": "busy", "type": "rate", "code": "c", "param": None, "more": 1}
    headers = {"Retry-After": "3", "content-type": "application/json", "content-length": "9"}
    event = error_of(error_message(429, json.dumps({"error": error}).encode(), headers, None))
    kept = {"retry-after": "3"}
    assert event == {
        "type": "error",
        "status": 429,
        "headers": kept,
        "error": {"message": "busy", "type": "rate", "code": "c", "param": None, "headers": kept},
    }


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error":5}', b'{"error":null}', b"\xff"]
)
def test_an_answer_that_is_no_error_object_is_an_error_all_the_same(body: bytes) -> None:
    event = error_of(error_message(502, body, {}, "a"))
    assert (event["status"], event["stream_id"]) == (502, "a")
    assert event["error"].keys() == {"type", "code", "message", "param"}
    assert event["error"]["message"]


def test_a_refusal_of_our_own_keeps_its_headers() -> None:
    event = error_of(refusal_message(UpgradeRefused("no", headers={"x-a": "b"})))
    assert (event["status"], event["headers"]) == (426, {"x-a": "b"})
