from dataclasses import replace

from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.draft import ResponseDraft
from qwen_mitm.wire.chat import AnswerReader, Failure
from tests.event_checker import check_events, events_of
from tests.translate.answers import DONE, chunk, plain_context, text


def test_whoever_answers_goes_on_with_a_response_that_was_begun() -> None:
    context = plain_context()
    draft = ResponseDraft(context)
    given_up = Assembler(context, draft)
    stream = given_up.start()
    answers = Assembler(replace(context, estimated_input_tokens=99), draft)

    stream += answers.start()
    stream += answers.feed(AnswerReader().feed(text("hi") + chunk(finish="stop") + DONE))

    events = events_of(stream)
    check_events(events)
    assert events[-1]["response"]["usage"]["input_tokens"] == 99
    assert given_up.finished


def test_a_response_that_nobody_answered_fails_with_an_estimated_usage() -> None:
    draft = ResponseDraft(plain_context())
    draft.start()
    draft.fail(Failure("nobody is there"), None, 11)

    events = events_of(draft.take())
    check_events(events)
    assert draft.usage_is_estimated
    assert events[-1]["response"]["error"]["message"] == "nobody is there"


def test_a_call_gets_an_id_of_its_own() -> None:
    draft = ResponseDraft(plain_context())
    assert [draft.call_id(wanted) for wanted in ("a", "a", None, "")] == [
        "a",
        "call_1",
        "call_2",
        "call_3",
    ]
