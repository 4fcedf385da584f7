from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import openai
import pytest
from openai.types.responses import Response, ResponseCustomToolCall, ResponseStreamEvent

from tests.translate.answers import Answer
from tests.translate.test_transcripts import CASES, TRANSCRIPTS, context_of

FINAL = ("response.completed", "response.incomplete", "response.failed")


def transcript(case: str) -> Answer:
    return Answer([(TRANSCRIPTS / case / "upstream.sse").read_bytes()], context_of(case))


def client_of(answer: Answer) -> openai.OpenAI:
    """The official client, to which every request is answered with this answer."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        if json.loads(request.content).get("stream"):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, content=answer.stream)
        return httpx2.Response(200, json=answer.assembler.response())

    return openai.OpenAI(
        base_url="http://127.0.0.1:1/v1",
        api_key="no-key",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(transport=httpx2.MockTransport(respond)),
    )


def as_sent(response: Response) -> object:
    return response.to_dict(mode="json")


@pytest.fixture(params=CASES)
def answer(request: pytest.FixtureRequest) -> Answer:
    return transcript(request.param)


@pytest.fixture
def client(answer: Answer) -> Iterator[openai.OpenAI]:
    with client_of(answer) as client:
        yield client


def test_stream_helper_accumulates_the_whole_answer(answer: Answer, client: openai.OpenAI) -> None:
    snapshots: dict[int, str] = {}
    with client.responses.stream(model="m", input="Hi") as stream:
        events = list(stream)
        final = stream.get_final_response() if answer.status == "completed" else None
    assert [event.type for event in events] == [event["type"] for event in answer.events]
    for event in events:
        if event.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
            snapshots[event.output_index] = event.snapshot
    for index, text in snapshots.items():
        item = answer.output[index]
        assert text in (item.get("arguments"), *(it.get("text") for it in item.get("content", [])))
    inputs: dict[int, str] = {}
    for event in events:
        if event.type == "response.custom_tool_call_input.delta":
            inputs[event.output_index] = inputs.get(event.output_index, "") + event.delta
    for index, text in inputs.items():
        assert answer.output[index]["input"] == text
        if final is not None:
            call = final.output[index]
            assert isinstance(call, ResponseCustomToolCall)
            assert call.input == text
    if final is not None:
        assert [getattr(it, "id", None) for it in final.output] == [
            it["id"] for it in answer.output
        ]
        assert final.output_text == "".join(
            part.get("text", "")
            for item in answer.output
            if item["type"] == "message"
            for part in item["content"]
        )


def test_raw_stream_has_every_event_as_it_was_sent(answer: Answer, client: openai.OpenAI) -> None:
    stream = client.responses.create(model="m", input="Hi", stream=True)
    events: list[ResponseStreamEvent] = list(stream)
    assert [event.to_dict(mode="json") for event in events] == answer.events
    assert events[-1].type in FINAL


def test_events_are_valid_by_the_clients_own_models(client: openai.OpenAI) -> None:
    for event in client.responses.create(model="m", input="Hi", stream=True):
        if event.type == "response.failed" and event.response.error is not None:
            # The code on which clients compact the conversation is missing in its list.
            event.response.error.code = "server_error"
        # The client itself parses leniently.
        type(event).model_validate(event.to_dict(mode="json"))


def test_answer_without_a_stream_is_the_response_of_the_last_event(
    answer: Answer, client: openai.OpenAI
) -> None:
    response = client.responses.create(model="m", input="Hi")
    assert as_sent(response) == answer.response
    assert response.status == answer.status
