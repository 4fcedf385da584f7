import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.wire.chat import AnswerPart, AnswerReader, ChatChunk, EndOfAnswer, Failure


def read(*pieces: bytes) -> list[AnswerPart]:
    reader = AnswerReader()
    parts = [part for piece in pieces for part in reader.feed(piece)]
    return parts + reader.end()


def chunk(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def outline(parts: list[AnswerPart]) -> list[str | None]:
    """Texts of the chunks, ``!message`` of a failure, ``.`` for the end."""
    words: list[str | None] = []
    for part in parts:
        match part:
            case ChatChunk(choice=None):
                words.append(None)
            case ChatChunk(choice=choice) if choice is not None:
                words.append(choice.delta.content)
            case Failure(message=message):
                words.append(f"!{message}")
            case EndOfAnswer():
                words.append(".")
    return words


COMPLETION = json.dumps(
    {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"content": "hé"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    },
    ensure_ascii=False,
).encode()
STREAM = b": hello\r\n\r\ndata: %b\r\n\r\ndata:%b\n\ndata: %b\n\ndata: [DONE]\n\n" % (
    chunk("a"),
    '{"choices": [{"delta": {"content": "é😀"}}]}'.encode(),
    b'{"choices": [], "usage": {"total_tokens": 3}}',
)


def test_stream_gives_its_chunks_and_its_end() -> None:
    assert outline(read(STREAM)) == ["a", "é😀", None, "."]


@pytest.mark.parametrize(
    "answer",
    [
        STREAM,
        STREAM.replace(b"data: [DONE]\n\n", b"data: [DONE]"),
        STREAM.replace(b"data: [DONE]\n\n", b"data:  [DONE] \r\n"),
        STREAM.replace(b"[DONE]", b'{"error": "gone"}'),
        b"\xef\xbb\xbf" + STREAM,
        b"\n\n" + STREAM,
        COMPLETION,
        b"\xef\xbb\xbf \n" + COMPLETION,
        b" " * 70_000 + COMPLETION,
        b'{"error": {"message": "no"}}',
        b"<html><body>Bad gateway</body></html>",
        b"upstream connect error",
        b"\xef\xbc\x8c full width",
        b"",
    ],
)
@given(st.data())
def test_parts_do_not_depend_on_how_the_bytes_are_cut(answer: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert read(*pieces) == read(answer)


def test_chunk_comes_out_with_the_bytes_that_complete_it() -> None:
    reader = AnswerReader()
    assert outline(reader.feed(b"data: " + chunk("a") + b"\n\n")) == ["a"]
    assert outline(reader.feed(b"data: " + chunk("b") + b"\r")) == []
    assert outline(reader.feed(b"\r")) == ["b"]


def test_nothing_counts_after_the_end() -> None:
    reader = AnswerReader()
    done = b"data: [DONE]\n\ndata: " + chunk("late") + b"\n\n"
    assert reader.feed(done) == [EndOfAnswer()]
    assert reader.feed(b"data: " + chunk("later") + b"\n\n") == []
    assert reader.end() == []


def test_nothing_counts_after_a_failure() -> None:
    reader = AnswerReader()
    failed = b'data: {"error": {"message": "no"}}\n\ndata: ' + chunk("late") + b"\n\n"
    assert outline(reader.feed(failed)) == ["!no"]
    assert reader.feed(STREAM) == []
    assert reader.end() == []


def test_stream_that_only_stops_gives_no_end() -> None:
    assert outline(read(b"data: " + chunk("a") + b"\n\n")) == ["a"]


def test_event_cut_in_the_middle_is_skipped_and_counted() -> None:
    reader = AnswerReader()
    stream = b"data: " + chunk("a") + b"\n\ndata: " + '{"choices": [{"del😀'.encode()[:-2]
    assert outline(reader.feed(stream)) == ["a"]
    assert reader.end() == []
    assert reader.skipped == 1


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b'"text"',
        b"5",
        b"[1]",
        b'{"type": "ping"}',
        b'{"message": "hello"}',
        b'{"choices": "none"}',
        b'{"choices": [{"delta": {"content": 5}}]}',
        b'{"choices": [{"delta": {"tool_calls": [5]}}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"choices": [], "created": ' + b"9" * 5000,
    ],
)
def test_event_that_is_no_chunk_is_skipped_and_counted(data: bytes) -> None:
    reader = AnswerReader()
    stream = b"data: " + data + b"\n\ndata: " + chunk("a") + b"\n\n"
    assert outline(reader.feed(stream)) == ["a"]
    assert reader.skipped == 1


@pytest.mark.parametrize("stream", [b"data:\n\n", b": ping\n\n", b"event: ping\n\n", b"id: 1\n\n"])
def test_events_without_data_are_nothing_and_not_counted(stream: bytes) -> None:
    reader = AnswerReader()
    assert reader.feed(stream) + reader.end() == []
    assert reader.skipped == 0


def test_broken_characters_do_not_cost_the_chunk() -> None:
    stream = b'data: {"choices": [{"delta": {"content": "a\xffb\\ud83dc"}}]}\n\n'
    assert outline(read(stream)) == ["a\ufffdb\ufffdc"]


def test_json_on_several_data_lines_is_one_chunk() -> None:
    assert outline(read(b'data: {"choices": [\ndata: {"delta": {"content": "a"}}]}\n\n')) == ["a"]


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (
            b'data: {"error": {"message": "no", "type": "t", "code": "c", "param": "p"}}',
            Failure("no", "t", "c", "p"),
        ),
        (
            b'data: {"error": {"message": "no", "code": 429}, "choices": [{"delta": {}}]}',
            Failure("no", "rate_limit_error", status=429),
        ),
        (b'data: {"error": "no"}', Failure("no")),
        (b'data: {"error": {"reason": "no"}}', Failure('{"reason": "no"}')),
        (b'data: {"error": true, "choices": "none"}', Failure("true")),
        (
            b'data: {"object": "error", "message": "no", "type": "t", "code": 400}',
            Failure("no", "t", status=400),
        ),
        (
            b'data: {"code": "Throttling", "message": "no", "request_id": "r"}',
            Failure("no", code="Throttling"),
        ),
        (b'event: error\ndata: {"message": "no"}', Failure("no")),
        (b'event: error\ndata: {"error": {"message": "no"}}', Failure("no")),
        (b"event: error\ndata: no", Failure("no")),
        (
            b"event: error\ndata:",
            Failure("The upstream sent an error without a message."),
        ),
        (
            b'data: {"choices": [{"delta": {"content": "no"}, "finish_reason": "error_finish"}]}',
            Failure("no", code="error_finish"),
        ),
        (
            b'data: {"choices": [{"delta": {}, "finish_reason": "error_finish"}]}',
            Failure("The upstream ended its answer with an error.", code="error_finish"),
        ),
    ],
)
def test_error_in_the_stream_is_a_failure(event: bytes, failure: Failure) -> None:
    assert read(event + b"\n\n") == [failure]


@pytest.mark.parametrize("error", [b"null", b"{}", b'""', b"false"])
def test_chunk_whose_error_is_empty_is_a_chunk(error: bytes) -> None:
    stream = b'data: {"choices": [{"delta": {"content": "a"}}], "error": %b}\n\n' % error
    assert outline(read(stream)) == ["a"]


def test_json_document_is_a_chunk_and_complete() -> None:
    parts = read(COMPLETION)
    assert outline(parts) == ["hé", "."]
    assert isinstance(parts[0], ChatChunk)
    assert parts[0].usage is not None
    assert parts[0].usage.total_tokens == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b'[{"error": {"message": "no"}}]', "no"),
        (b'{"choices": []}', "The upstream's answer has no choices."),
        (b"{}", "The upstream's answer has no choices."),
        (
            b'{"choices": [',
            'The upstream sent something that is not a model\'s answer: {"choices": [',
        ),
        (
            b"<html><title>Sign in</title><p>Please sign in.</p></html>",
            "The upstream sent something that is not a model's answer: Sign in Please sign in.",
        ),
        (
            b"no healthy upstream\n",
            "The upstream sent something that is not a model's answer: no healthy upstream",
        ),
        (b"<!-- -->", "The upstream sent something that is not a model's answer: an empty page"),
    ],
)
def test_body_that_is_no_answer_is_a_failure(body: bytes, message: str) -> None:
    (failure,) = read(body)
    assert isinstance(failure, Failure)
    assert failure.message == message


@pytest.mark.parametrize("body", [b"", b" \r\n", b": ping\n\n", b"data: \n\n"])
def test_empty_answer_is_nothing(body: bytes) -> None:
    assert read(body) == []


@pytest.mark.parametrize(
    "body", [b"data: %b\n\n", b'{"choices": "%b"}', b"<p>%b</p>", b"data: a\n\ndata: %b\n\n"]
)
def test_answer_beyond_the_limit_is_a_failure(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_mitm.wire.sse.MAX_EVENT_BYTES", 1000)
    monkeypatch.setattr("qwen_mitm.wire.answer_body.MAX_EVENT_BYTES", 1000)
    (failure,) = read(body % (b"x" * 2000), STREAM)
    assert isinstance(failure, Failure)
    assert "than any answer can hold" in failure.message


any_json: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["function", "name", "text", "message"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)
FIELDS = ["index", "delta", "message", "finish_reason", "content", "tool_calls", "function_call"]
FIELDS += ["reasoning", "refusal", "logprobs", "id", "function", "arguments"]
objects = st.dictionaries(st.sampled_from(FIELDS), any_json, max_size=4)
odd_chunks = st.fixed_dictionaries(
    {},
    optional={
        "choices": any_json
        | st.lists(st.fixed_dictionaries({"delta": any_json | objects}) | objects, max_size=2),
        "error": any_json,
        "object": any_json,
        "usage": any_json,
        "code": any_json,
        "detail": any_json,
    },
)


@given(st.lists(odd_chunks, max_size=3))
def test_no_chunk_of_any_types_breaks_the_stream(chunks: list[dict[str, JsonValue]]) -> None:
    stream = b"".join(b"data: %b\n\n" % json.dumps(odd).encode() for odd in chunks)
    reader = AnswerReader()
    parts = reader.feed(stream + b"data: [DONE]\n\n") + reader.end()
    assert parts
    assert not isinstance(parts[-1], ChatChunk)
    assert isinstance(parts[-1], Failure) or len(parts) - 1 + reader.skipped == len(chunks)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    for part in read(body):
        assert isinstance(part, ChatChunk | Failure | EndOfAnswer)
