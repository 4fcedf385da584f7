import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.wire import sse
from qwen_mitm.wire.sse import (
    DONE,
    KEEP_ALIVE,
    EventStreamDecoder,
    ServerSentEvent,
    encode_comment,
    encode_event,
)


def decode(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = EventStreamDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.end()


def reference(stream: bytes) -> list[tuple[str, str, str]]:
    events = []
    data: list[str] = []
    type_ = last_id = ""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    for line in [*re.split("\r\n|\r|\n", text), ""]:
        if not line:
            if data:
                events.append(("\n".join(data), type_ or "message", last_id))
            data, type_ = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            type_ = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return events


fragments = st.sampled_from(
    [
        *(b"data", b"data:", b"data: ", b"event:", b"id: ", b"retry:", b":", b" "),
        *(b"\n", b"\n\n", b"\r", b"\r\n", b"\xef\xbb\xbf"),
        *(b"\xef", "é€😀\u2028".encode(), b"\xe2\x82", b"x", b"\0", b"7"),
    ]
)
streams = st.lists(fragments, max_size=40).map(b"".join)


@given(st.data(), streams)
def test_events_do_not_depend_on_how_the_bytes_are_cut(data: st.DataObject, stream: bytes) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert decode(*pieces) == decode(stream)


@given(streams)
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == decode(stream)


@given(streams)
def test_decoder_agrees_with_a_plain_reading_of_the_specification(stream: bytes) -> None:
    events = [(e.data.decode("utf-8", "replace"), e.type, e.id) for e in decode(stream)]
    assert events == reference(stream)


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b": keep-alive\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n:comment\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\ndata\n\n", [b"\n"]),
        (b"event: ping\n\n", []),
        (b"unknown: a\n\n", []),
        (b" data: a\n\n", []),
        (b"data: a\xe2\x80\xa8b\n\n", [b"a\xe2\x80\xa8b"]),
        (b"data: \xff\n\n", [b"\xff"]),
        (b"", []),
    ],
)
def test_streams_by_the_specification(stream: bytes, data: list[bytes]) -> None:
    assert [event.data for event in decode(stream)] == data


@pytest.mark.parametrize("stream", [b"data: a", b"data: a\n", b"data: a\r\n", b"data: a\r"])
def test_last_event_without_its_blank_line_is_delivered_at_the_end(stream: bytes) -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(stream) == []
    assert decoder.end() == [ServerSentEvent(b"a")]
    assert decoder.end() == []


def test_event_is_delivered_before_the_second_half_of_a_crlf() -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [ServerSentEvent(b"a")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\r") == []
    assert decoder.feed(b"\n\r\n") == [ServerSentEvent(b"b")]


def test_lf_after_a_cr_that_ended_the_last_piece_does_not_end_the_event() -> None:
    assert decode(b"data: a\r", b"\ndata: b\r", b"\n\r\n") == [ServerSentEvent(b"a\nb")]


def test_type_holds_for_one_event_and_id_for_all_that_follow() -> None:
    events = decode(
        b"event: error\nid: 7\ndata: a\n\ndata: b\n\nid: a\0b\ndata: c\n\nid\ndata: d\n\n"
    )
    assert events == [
        ServerSentEvent(b"a", "error", "7"),
        ServerSentEvent(b"b", "message", "7"),
        ServerSentEvent(b"c", "message", "7"),
        ServerSentEvent(b"d", "message", ""),
    ]


def test_retry_is_kept_when_it_is_a_number() -> None:
    decoder = EventStreamDecoder()
    decoder.feed(b"retry: 3000\nretry: soon\n\n")
    assert decoder.retry == 3000


def test_big_event_in_ten_thousand_pieces_is_one_event() -> None:
    stream = b"data: " + b"x" * 1_000_000 + b"\n\n"
    pieces = [stream[i : i + 100] for i in range(0, len(stream), 100)]
    assert decode(*pieces) == [ServerSentEvent(b"x" * 1_000_000)]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "event", [b"data: " + b"x" * 100, b"data: xxxx\n" * 10, b"data:\n" * 20, b":" + b"x" * 100]
)
def test_event_beyond_the_limit_ends_the_decoding(
    event: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 90)
    stream = b"data: a\n\n" + event + b"\n\ndata: b\n\n"
    decoder = EventStreamDecoder()
    events = []
    for start in range(0, len(stream), size):
        events += decoder.feed(stream[start : start + size])
    assert events + decoder.end() == [ServerSentEvent(b"a")]
    assert decoder.overflowed


def test_many_small_events_in_one_read_are_not_one_big_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 90)
    assert len(decode(b"data: aaaaaaaaaa\n\n" * 100)) == 100


def test_encoded_event_names_its_type_and_decodes_to_itself() -> None:
    encoded = encode_event("response.created", b'{"a":1}')
    assert encoded == b'event: response.created\ndata: {"a":1}\n\n'
    assert decode(encoded) == [ServerSentEvent(b'{"a":1}', "response.created")]


def test_end_marker_is_an_event_and_comments_are_none() -> None:
    assert decode(KEEP_ALIVE + DONE + encode_comment("waiting")) == [ServerSentEvent(b"[DONE]")]
    assert KEEP_ALIVE == b": keep-alive\n\n"
