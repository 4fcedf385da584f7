import json
from dataclasses import replace

import pytest

from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.answering import Terms
from qwen_mitm.translate.draft import ResponseDraft
from qwen_mitm.translate.rendition import ChatRendition
from tests.event_checker import check_events, events_of
from tests.translate.answers import DONE, chunk, plain_context, text
from tests.translate.sending import translated


def rendition(provider: str) -> ChatRendition:
    translation = translated({"input": "hi"}, provider=provider)
    return ChatRendition(translation, PROFILES[provider], plain_context())


@pytest.mark.parametrize(("provider", "kind"), [("vllm", "reasoning"), ("dashscope", "message")])
def test_what_leaks_as_text_is_mended_where_servers_leak(provider: str, kind: str) -> None:
    chat = rendition(provider)
    answering = chat.answering(ResponseDraft(chat.context), Terms(streams=True))
    assert answering.offer(text("<think>hm</think>")) is True
    stream = answering.accepted() + answering.feed(chunk(finish="stop") + DONE) + answering.end()

    events = events_of(stream)
    check_events(events)
    assert events[-1]["response"]["output"][0]["type"] == kind


def test_a_thought_that_leaks_is_no_part_of_a_summary() -> None:
    chat = rendition("vllm")
    context = replace(chat.context, seal_summary=str.upper)
    draft = ResponseDraft(context)
    answering = replace(chat, context=context).answering(draft, Terms(streams=True))
    answering.offer(text("<think>hm</think>so") + chunk(finish="stop") + DONE)

    response = events_of(answering.accepted() + answering.end())[-1]["response"]
    assert [item["encrypted_content"] for item in response["output"]] == ["SO"]


def test_a_chat_request_streams_when_the_client_does() -> None:
    chat = rendition("dashscope")
    assert chat.path == "/chat/completions"
    assert json.loads(chat.body(stream=True))["stream"] is True
    assert "stream" not in json.loads(chat.body(stream=False))


def test_a_summary_is_streamed_also_for_a_client_that_does_not_stream() -> None:
    translation = translated({"input": "hi"}, compact=True)
    chat = ChatRendition(translation, PROFILES["dashscope"], plain_context())
    assert json.loads(chat.body(stream=False))["stream"] is True
