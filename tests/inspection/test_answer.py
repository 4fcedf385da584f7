import json

from qwen_mitm.inspection.answer import assembled, events
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.wire.chat import AnswerReader
from tests.inspection.turns import UPSTREAM
from tests.translate.answers import answer, plain_context

WHOLE = answer(*UPSTREAM)


def test_an_answer_is_what_its_last_event_says() -> None:
    found = assembled(WHOLE.stream)
    assert found.response == WHOLE.response
    assert found.output == WHOLE.output


def test_events_end_where_they_end() -> None:
    found = list(events(WHOLE.stream))
    assert [event.type for event in found] == [event["type"] for event in WHOLE.events]
    assert WHOLE.stream[: found[0].end].endswith(b"\n\n")
    assert found[0].end < found[1].end
    assert json.loads(found[0].data)["type"] == "response.created"


def test_comments_are_no_events() -> None:
    assert list(events(b": keep-alive\n\n")) == []


def test_an_answer_that_has_not_ended_is_put_together() -> None:
    assembler = Assembler(plain_context())
    reader = AnswerReader()
    stream = assembler.start()
    for piece in UPSTREAM[:4]:
        stream += assembler.feed(reader.feed(piece))
    output = assembled(stream).output
    assert [item["type"] for item in output if isinstance(item, dict)] == [
        "reasoning",
        "message",
        "function_call",
    ]
    said = json.dumps(output)
    assert "The capital is Paris." in said
    assert "get_weather" in said


def test_an_answer_that_breaks_in_a_text_has_what_came() -> None:
    cut = WHOLE.stream[: WHOLE.stream.index(b"event: response.output_text.done")]
    message = assembled(cut).output[-1]
    assert isinstance(message, dict)
    assert message["content"] == [{"text": "The capital is Paris."}]


def test_a_document_is_read_as_a_response() -> None:
    assert assembled(json.dumps(WHOLE.response).encode()).output == WHOLE.output
    refusal = assembled(b'{"error": {"message": "no"}}')
    assert (refusal.output, refusal.response) == ([], {"error": {"message": "no"}})


def test_what_is_neither_has_no_output() -> None:
    assert [assembled(body).output for body in (b"", b"<html>", b"{cut", b"data: x\n\n")] == [
        []
    ] * 4
