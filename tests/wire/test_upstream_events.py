import json

import pytest

from qwen_mitm.wire.answer_body import EndOfAnswer
from qwen_mitm.wire.error_body import Failure
from qwen_mitm.wire.upstream_events import ResponsesPart, ResponsesReader, UpstreamEvent


def read(body: bytes) -> list[ResponsesPart]:
    reader = ResponsesReader()
    return [*reader.feed(body), *reader.end()]


def event(document: object) -> UpstreamEvent:
    (part,) = read(b"data: %b\n\n" % json.dumps(document).encode())
    assert isinstance(part, UpstreamEvent)
    return part


@pytest.mark.parametrize("kind", ["created", "in_progress", "queued"])
def test_what_only_begins_an_answer_settles_nothing(kind: str) -> None:
    document = {"type": f"response.{kind}", "response": {"id": "r", "status": kind}}
    assert read(b"data: %b\n\n" % json.dumps(document).encode()) == []


def test_what_a_host_fills_wrongly_reads_as_absent() -> None:
    made = event(
        {
            "type": "response.output_item.added",
            "output_index": "one",
            "delta": {"no": "text"},
            "item": {
                "type": "message",
                "id": "",
                "content": None,
                "summary": "x",
                "arguments": {"a": 1},
                "call_id": 7,
            },
        }
    )
    assert (made.output_index, made.delta) == (None, None)
    assert made.item is not None
    assert (made.item.type, made.item.id, made.item.call_id) == ("message", None, None)
    assert (made.item.content, made.item.summary) == ((), ())
    assert made.item.arguments == '{"a": 1}'
    assert made.item.raw["call_id"] == 7


def test_the_name_of_the_event_stands_in_for_a_type_that_is_missing() -> None:
    (part,) = read(b'event: response.output_text.delta\ndata: {"delta":"hi"}\n\n')
    assert isinstance(part, UpstreamEvent)
    assert (part.type, part.delta) == ("response.output_text.delta", "hi")


@pytest.mark.parametrize("data", ["[DONE]", " [DONE]"])
def test_the_end_marker_ends_the_answer(data: str) -> None:
    assert read(f"data:{data}\n\ndata: late\n\n".encode()) == [EndOfAnswer()]


@pytest.mark.parametrize("data", ["no json", "[1]", '"x"', '{"type":"ping"}', "{}"])
def test_what_is_no_event_is_skipped(data: str) -> None:
    assert read(f"data: {data}\n\n".encode()) == []


@pytest.mark.parametrize(
    "body",
    [
        b'event: error\ndata: {"message":"no","code":"c"}\n\n',
        b'data: {"type":"error","message":"no","code":"c"}\n\n',
        b'data: {"type":"error","error":{"message":"no","code":"c"}}\n\n',
        b'data: {"code":"c","message":"no","request_id":"1"}\n\n',
        b'event: response.failed\ndata: {"response":{"error":{"message":"no","code":"c"}}}\n\n',
        b'{"status":"failed","output":[],"error":{"message":"no","code":"c"}}',
        b'{"error":{"message":"no","code":"c"}}',
    ],
)
def test_an_error_is_found_wherever_it_is(body: bytes) -> None:
    (failure,) = read(body)
    assert isinstance(failure, Failure)
    assert (failure.message, failure.code, failure.type) == ("no", "c", "server_error")


def test_a_failure_without_words_is_one_all_the_same() -> None:
    (failure,) = read(b'data: {"type":"response.failed","response":{}}\n\n')
    assert isinstance(failure, Failure)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"output":[],"status":"completed"}', "response.completed"),
        (b'{"output":[],"status":"incomplete"}', "response.incomplete"),
    ],
)
def test_one_document_is_read_as_the_end_of_a_stream(body: bytes, kind: str) -> None:
    made, end = read(body)
    assert isinstance(made, UpstreamEvent)
    assert made.type == kind
    assert end == EndOfAnswer()


@pytest.mark.parametrize("body", [b'{"choices":[]}', b"<h1>no</h1>", b'{"output":'])
def test_what_is_no_response_is_a_failure(body: bytes) -> None:
    (failure,) = read(body)
    assert isinstance(failure, Failure)
