import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.web_chat.errors import CredentialsBlocked, RateLimited
from qwen_mitm.web_chat.reader import Said, WebChatReader
from qwen_mitm.wire.chat import AnswerPart, ChatChunk, EndOfAnswer, Failure, Usage
from tests.web_chat.pieces import (
    PARENT,
    RESPONSE,
    WEATHER,
    answer,
    created,
    event,
    finished,
    piece,
    refusal,
)

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "%s"}}\n</tool_call>'
OFFERED = {WEATHER.name: WEATHER.parameters}


def read(*pieces: bytes, offered: bool = False) -> list[AnswerPart]:
    reader = WebChatReader(offered=OFFERED if offered else {})
    return [part for data in pieces for part in reader.feed(data)] + reader.end()


def text_of(parts: list[AnswerPart]) -> str:
    chunks = [part for part in parts if isinstance(part, ChatChunk)]
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)


def thought_of(parts: list[AnswerPart]) -> str:
    chunks = [part for part in parts if isinstance(part, ChatChunk)]
    return "".join(c.delta.reasoning or "" for chunk in chunks for c in chunk.choices)


def calls_of(parts: list[AnswerPart]) -> list[tuple[str | None, str | None]]:
    chunks = [part for part in parts if isinstance(part, ChatChunk)]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return [(call.name, call.arguments) for delta in deltas for call in delta.tool_calls]


def finish_of(parts: list[AnswerPart]) -> list[str]:
    chunks = [part for part in parts if isinstance(part, ChatChunk)]
    return [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]


def usage_of(parts: list[AnswerPart]) -> Usage | None:
    return next((p.usage for p in reversed(parts) if isinstance(p, ChatChunk) and p.usage), None)


def failure_of(parts: list[AnswerPart]) -> Failure:
    assert isinstance(parts[-1], Failure)
    return parts[-1]


def test_an_answer_ends_without_a_mark_of_its_own() -> None:
    parts = read(answer("Greet", "ings"))
    assert text_of(parts) == "Greetings"
    assert finish_of(parts) == ["stop"]
    assert isinstance(parts[-1], EndOfAnswer)


def test_the_last_usage_counts_although_the_last_chunk_has_none() -> None:
    usage = usage_of(read(answer("a", "b", "c")))
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (33, 3, 36)


def test_each_piece_is_given_out_when_it_arrives() -> None:
    reader = WebChatReader(offered=OFFERED)
    assert reader.feed(created()) == []
    assert text_of(reader.feed(piece("one "))) == "one "
    assert text_of(reader.feed(piece("two"))) == "two"


def test_calls_are_given_out_when_each_is_complete() -> None:
    reader = WebChatReader(offered=OFFERED)
    assert text_of(reader.feed(piece("I look.\n"))).strip() == "I look."
    first = CALL % "Rome"
    assert reader.feed(piece(first[:25])) == []
    assert calls_of(reader.feed(piece(first[25:]))) == [("get_weather", '{"city":"Rome"}')]
    assert calls_of(reader.feed(piece(CALL % "Oslo"))) == [("get_weather", '{"city":"Oslo"}')]


def test_calls_of_one_answer_have_numbers_of_their_own() -> None:
    parts = read(created(), piece(CALL % "Rome"), piece(CALL % "Oslo"), finished(), offered=True)
    chunks = [part for part in parts if isinstance(part, ChatChunk)]
    indices = [call.index for c in chunks for choice in c.choices for call in choice.delta.calls]
    assert len(set(indices)) == 2
    assert text_of(parts) == ""


def test_tags_are_text_when_no_tool_was_offered() -> None:
    assert text_of(read(created(), piece(CALL % "Rome"), finished())) == CALL % "Rome"


def test_thinking_is_no_part_of_the_answer_and_its_end_is_not_the_end() -> None:
    parts = read(
        created(), piece("hm", phase="think"), finished("think"), piece("Yes."), finished()
    )
    assert (thought_of(parts), text_of(parts), finish_of(parts)) == ("hm", "Yes.", ["stop"])


def test_a_summary_of_the_thinking_is_told_once_although_it_comes_whole_each_time() -> None:
    def summary(*content: str) -> bytes:
        extra = {"summary_thought": {"content": list(content)}}
        return piece("", phase="thinking_summary", extra=extra)

    parts = read(created(), summary("I think"), summary("I think", "more"), finished())
    assert thought_of(parts) == "I think\nmore"


def test_what_the_sites_own_tools_say_is_no_answer() -> None:
    parts = read(created(), piece("found", phase="web_search", name="web_search"), piece("So."))
    assert text_of(parts) == "So."


def test_a_missing_phase_is_the_answer() -> None:
    assert text_of(read(created(), piece("Yes.", phase=None), finished(None))) == "Yes."


@pytest.mark.parametrize(
    ("status", "reason"), [("finished", "stop"), ("length", "length"), ("stopped", "stop")]
)
def test_the_status_is_a_finish_reason(status: str, reason: str) -> None:
    assert finish_of(read(created(), piece("a"), finished(status=status))) == [reason]


def test_a_finish_reason_of_its_own_counts_and_an_unknown_one_is_a_stop() -> None:
    for own, reason in (("length", "length"), ("whatever", "stop")):
        last = event({"choices": [{"delta": {"content": "a"}, "finish_reason": own}]})
        assert finish_of(read(created(), last)) == [reason]


def test_a_stream_that_breaks_off_has_no_end() -> None:
    parts = read(created(), piece("I was"))
    assert text_of(parts) == "I was"
    assert finish_of(parts) == []
    assert not isinstance(parts[-1], EndOfAnswer | Failure)


def test_an_error_in_the_place_of_a_stream_is_typed() -> None:
    reader = WebChatReader(offered={})
    assert reader.feed(refusal("RateLimited", "slow", num=3)) == []
    failure = failure_of(reader.end())
    assert failure.status == 429
    assert isinstance(reader.trouble, RateLimited)
    assert reader.trouble.hours == 3


def test_an_error_as_an_event_ends_the_answer() -> None:
    parts = read(created(), piece("so"), event({"error": {"message": "boom"}}), piece("never"))
    assert text_of(parts) == "so"
    assert "boom" in failure_of(parts).message


def test_a_page_is_known_by_its_first_byte() -> None:
    reader = WebChatReader(offered={})
    assert reader.feed(b"\r\n ") == []
    assert failure_of(reader.feed(b"<")).code == "credentials_blocked"
    assert isinstance(reader.trouble, CredentialsBlocked)
    assert reader.feed(answer("no")) == []


def test_an_answer_in_one_document_is_an_answer() -> None:
    document = {
        "success": True,
        "request_id": "r",
        "data": {
            "chat_id": "",
            "parent_id": PARENT,
            "message_id": RESPONSE,
            "messages": None,
            "choices": [{"message": {"role": "assistant", "content": "Whole."}}],
        },
    }
    said: list[Said] = []
    reader = WebChatReader(offered={}, on_end=said.append)
    parts = reader.feed(json.dumps(document).encode()) + reader.end()
    assert text_of(parts) == "Whole."
    assert isinstance(parts[-1], EndOfAnswer)
    assert said[0].parent_id == PARENT


def test_the_next_message_follows_the_parent_and_not_the_response() -> None:
    said: list[Said] = []
    reader = WebChatReader(offered=OFFERED, on_end=said.append)
    reader.feed(created() + piece("Look:\n") + piece(CALL % "Rome"))
    assert said == []
    reader.feed(finished())
    (whole,) = said
    assert whole.parent_id == PARENT
    assert whole.message.content.strip() == "Look:"
    assert [(c.name, c.arguments) for c in whole.message.tool_calls] == [
        ("get_weather", '{"city":"Rome"}')
    ]


@pytest.mark.parametrize("parent_id", ["msg-1", ""])
def test_a_parent_that_is_no_uuid_ends_the_chain_and_not_the_answer(parent_id: str) -> None:
    said: list[Said] = []
    reader = WebChatReader(offered={}, on_end=said.append)
    parts = reader.feed(created(parent_id) + piece("Yes.") + finished())
    assert text_of(parts) == "Yes."
    assert said[0].parent_id is None


def test_an_answer_that_failed_or_broke_off_is_not_said() -> None:
    said: list[Said] = []
    for data in (created() + piece("half"), created() + event({"error": "boom"})):
        reader = WebChatReader(offered={}, on_end=said.append)
        reader.feed(data)
        reader.end()
    assert said == []


def test_the_credentials_are_taken_out_of_the_sites_words() -> None:
    reader = WebChatReader(offered={}, redact=lambda text: text.replace("fake-token", "…"))
    reader.feed(refusal("x", "bad cookie fake-token"))
    assert "fake-token" not in failure_of(reader.end()).message


@given(st.data())
def test_reading_does_not_depend_on_where_the_bytes_are_cut(data: st.DataObject) -> None:
    stream = answer("Grüße ", "aus 東京 ", CALL % "Köln", " 👋")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    cut, whole = read(*pieces, offered=True), read(stream, offered=True)
    assert text_of(cut) == text_of(whole)
    assert calls_of(cut) == calls_of(whole) == [("get_weather", '{"city":"Köln"}')]
    assert finish_of(cut) == ["stop"]


def test_a_call_that_the_model_quotes_from_a_file_is_not_made() -> None:
    quoted = f"The file says:\n```\n{CALL % 'Rome'}\n```\n"
    parts = read(created(), piece(quoted), finished(), offered=True)
    assert (text_of(parts), calls_of(parts)) == (quoted, [])
    parts = read(created(), piece(f"{quoted}I look.\n{CALL % 'Oslo'}"), finished(), offered=True)
    assert calls_of(parts) == [("get_weather", '{"city":"Oslo"}')]


@pytest.mark.parametrize("form", ["%s", "data: %s\n\n"])
def test_a_captcha_in_json_is_a_page(form: str) -> None:
    captcha = '{"ret":["FAIL_SYS_USER_VALIDATE"],"data":{"url":"https://h/punish?x5secdata=1"}}'
    reader = WebChatReader(offered={})
    reader.feed((form % captcha).encode())
    reader.end()
    assert isinstance(reader.trouble, CredentialsBlocked)


def test_a_mark_of_the_end_is_no_answer() -> None:
    done = b"data: [DONE]\n\n"
    assert read(created(), done) == []
    assert finish_of(read(created(), piece("Yes."), done)) == ["stop"]
