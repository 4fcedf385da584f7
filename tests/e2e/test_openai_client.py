"""The official client against the simulator, through a real mitmdump in both modes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types.responses import FunctionToolParam, Response
from openai.types.responses import ResponseFunctionToolCall as FunctionCall
from pydantic import BaseModel

from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import check_chat
from tests.e2e.clients import CLIENT_KEY, Way
from tests.e2e.proxy import Proxy

MODEL = "qwen3-coder-plus"
TEXT = "You said “hello there”. 你好 — this is the Qwen simulator, and it heard you. 👋"
THOUGHTS = "The user wants an answer. I look at the words and keep it short."
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CLOCK: FunctionToolParam = {
    "type": "function",
    "name": "get_time",
    "parameters": {"type": "object", "properties": {"tz": {"type": "string"}}},
    "strict": False,
}
ASK_FOR_BOTH = 'call:get_weather{"city": "Köln 🌧"} call:get_time{"tz": "CET"}'

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="session", params=["regular", "reverse"])
def way(request: pytest.FixtureRequest, proxy: Proxy, reverse_proxy: Proxy) -> Way:
    return Way(proxy) if request.param == "regular" else Way(reverse_proxy, reverse=True)


@pytest.fixture(scope="session")
def client(way: Way) -> Iterator[OpenAI]:
    with way.openai() as client:
        yield client


# The client's own types have too many overloads for arguments that vary.
def respond(client: OpenAI, how: str, said: Any, **options: Any) -> Response:
    """The final Response, by one of the client's three ways."""
    arguments: dict[str, Any] = {"model": MODEL, "input": said, **options}
    last: Any
    if how == "create":
        response = client.responses.create(**arguments)
        assert isinstance(response, Response)
        return response
    if how == "stream=True":
        *_, last = client.responses.create(stream=True, **arguments)
    else:
        with client.responses.stream(**arguments) as stream:
            # This helper checks ids, indices and the order of events, and raises.
            *_, last = stream
    assert last.type in ("response.completed", "response.incomplete", "response.failed")
    assert isinstance(last.response, Response)
    return last.response


each_way_of_asking = pytest.mark.parametrize("how", ["create", "stream=True", "stream()"])


@each_way_of_asking
def test_text_arrives_whole_with_its_usage(
    client: OpenAI, how: str, simulator: SimulatorProcess
) -> None:
    response = respond(client, how, "hello there", instructions="Be brief.", temperature=0)

    assert response.output_text == TEXT
    assert response.status == "completed"
    assert response.model == MODEL
    assert response.temperature == 0
    assert response.instructions == "Be brief."
    usage = response.usage
    assert usage
    assert usage.input_tokens > 0
    assert usage.output_tokens == 16
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens_details.reasoning_tokens == 0
    (received,) = simulator.requests(received=1)
    check_chat(received["json"], "generic")
    assert received["json"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert received["json"]["temperature"] == 0


@pytest.mark.parametrize("summary", ["auto", None])
@each_way_of_asking
def test_thoughts_come_in_the_family_that_was_asked_for(
    client: OpenAI, how: str, summary: Literal["auto"] | None
) -> None:
    reasoning = {"effort": "high", "summary": summary} if summary else {"effort": "high"}

    response = respond(client, how, "hello there", reasoning=reasoning)

    thought, message = response.output
    assert thought.type == "reasoning"
    assert "".join(part.text for part in thought.summary) == (THOUGHTS if summary else "")
    content = thought.content or []
    assert "".join(part.text for part in content) == ("" if summary else THOUGHTS)
    assert message.type == "message"
    assert response.output_text == TEXT
    assert response.usage
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert response.reasoning
    assert response.reasoning.effort == "high"


def test_effort_none_asks_for_no_thoughts(client: OpenAI) -> None:
    response = respond(client, "create", "hello there", reasoning={"effort": "none"})

    assert [item.type for item in response.output] == ["message"]


@each_way_of_asking
def test_a_round_trip_of_two_parallel_calls_ends_in_their_results(
    client: OpenAI, how: str, simulator: SimulatorProcess
) -> None:
    tools = [WEATHER, CLOCK]
    history: list[Any] = [{"role": "user", "content": ASK_FOR_BOTH}]

    first = respond(client, how, history, tools=tools)
    calls = [item for item in first.output if isinstance(item, FunctionCall)]
    # The client's own way to go on: output items go back as they came.
    history += [item.to_dict(exclude_unset=True) for item in first.output]
    for call, result in zip(calls, ["rain", "noon"], strict=True):
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
    second = respond(client, how, history, tools=tools)

    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", {"city": "Köln 🌧"}),
        ("get_time", {"tz": "CET"}),
    ]
    assert second.output_text == "The tools said “rain” and “noon”. That is all I needed."
    received = simulator.requests(received=2)[1]["json"]
    check_chat(received, "generic")
    assistant, *results = received["messages"][1:]
    assert [call["id"] for call in assistant["tool_calls"]] == [call.call_id for call in calls]
    assert [message["tool_call_id"] for message in results] == [call.call_id for call in calls]


def test_one_call_at_a_time_is_passed_on(client: OpenAI) -> None:
    response = respond(
        client, "create", ASK_FOR_BOTH, tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )

    assert [item.type for item in response.output] == ["function_call"]
    assert response.parallel_tool_calls is False


def test_a_forced_tool_is_called(client: OpenAI) -> None:
    choice = {"type": "function", "name": "get_time"}

    response = respond(client, "stream()", "hello", tools=[WEATHER, CLOCK], tool_choice=choice)

    (call,) = response.output
    assert isinstance(call, FunctionCall)
    assert call.name == "get_time"


class Weather(BaseModel):
    city: str
    degrees: int
    windy: bool


def test_parse_gives_the_object_of_the_schema(client: OpenAI, simulator: SimulatorProcess) -> None:
    response = client.responses.parse(model=MODEL, input="the weather", text_format=Weather)

    assert isinstance(response.output_parsed, Weather)
    (received,) = simulator.requests(received=1)
    wanted = received["json"]["response_format"]
    assert wanted["type"] == "json_schema"
    assert set(wanted["json_schema"]["schema"]["properties"]) == {"city", "degrees", "windy"}


def test_a_stream_gives_the_object_of_the_schema(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="weather", text_format=Weather) as stream:
        response = stream.get_final_response()

    assert isinstance(response.output_parsed, Weather)


@each_way_of_asking
def test_an_image_arrives_as_it_was_sent(client: OpenAI, how: str) -> None:
    parts = [
        {"type": "input_text", "text": "look"},
        {
            "type": "input_image",
            "image_url": f"data:image/png;base64,{PIXEL}",
            "detail": "auto",
        },
    ]
    history: list[Any] = [{"role": "user", "content": parts}]

    response = respond(client, how, history)

    size = len(base64.b64decode(PIXEL))
    assert f"I see 1 image(s): 1x1 ({size} bytes)." in response.output_text


@each_way_of_asking
def test_a_refusal_is_a_refusal(client: OpenAI, how: str) -> None:
    response = respond(client, how, "hello", model="sim-refusal")

    (message,) = response.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "refusal"
    assert part.refusal == "I'm sorry, I can't help with that."


@each_way_of_asking
def test_a_limit_of_tokens_makes_the_response_incomplete(
    client: OpenAI, how: str, simulator: SimulatorProcess
) -> None:
    response = respond(client, how, "hello there", max_output_tokens=3)

    assert response.status == "incomplete"
    assert response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == "You said “hello"
    assert response.max_output_tokens == 3
    assert response.usage


REFUSALS: list[tuple[str, int, type[openai.APIStatusError], str | None]] = [
    ("400-inspection", 400, openai.BadRequestError, "data_inspection_failed"),
    ("400-context", 400, openai.BadRequestError, "context_length_exceeded"),
    ("400-flat", 400, openai.BadRequestError, "context_length_exceeded"),
    ("401", 401, openai.AuthenticationError, "invalid_api_key"),
    ("401-native", 401, openai.AuthenticationError, "invalid_api_key"),
    ("403", 403, openai.PermissionDeniedError, "model_access_denied"),
    ("404", 404, openai.NotFoundError, "model_not_found"),
    ("404-empty", 404, openai.NotFoundError, None),
    ("422-detail", 422, openai.UnprocessableEntityError, None),
    ("429", 429, openai.RateLimitError, "rate_limit_exceeded"),
    ("429-quota", 429, openai.RateLimitError, "insufficient_quota"),
    ("500", 500, openai.InternalServerError, None),
    ("500-text", 500, openai.InternalServerError, None),
    ("500-empty", 500, openai.InternalServerError, None),
    ("502", 502, openai.InternalServerError, None),
    ("503", 503, openai.InternalServerError, None),
    ("504", 504, openai.InternalServerError, None),
    ("529", 529, openai.InternalServerError, None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("behaviour", "status", "error", "code"), REFUSALS)
def test_an_upstreams_refusal_reaches_the_client_with_its_status(
    client: OpenAI,
    behaviour: str,
    status: int,
    error: type[openai.APIStatusError],
    code: str | None,
    stream: bool,
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.responses.create(model=f"sim-{behaviour}", input="hello", stream=stream)

    assert type(raised.value) is error
    assert raised.value.status_code == status
    # The client unwraps {"error": …}.
    body = raised.value.body
    assert isinstance(body, dict)
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["message"]
    assert "<" not in body["message"] or "<4" in body["message"] or "<5" in body["message"]
    if code:
        assert body["code"] == code


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_refusal_says_of_time_and_its_id_is_passed_on(client: OpenAI, stream: bool) -> None:
    model = "sim-429+retry-after-7+retry-after-ms-7100+rate-limits"

    with pytest.raises(openai.RateLimitError) as raised:
        client.responses.create(model=model, input="hello", stream=stream)

    headers = raised.value.response.headers
    assert headers["retry-after"] == "7"
    assert headers["retry-after-ms"] == "7100"
    assert any(name.startswith("x-ratelimit-") for name in headers)
    assert raised.value.request_id


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behaviour", ["error-first", "200-error", "html", "empty", "no-choices"])
def test_an_error_inside_a_200_is_an_error_to_the_client(
    client: OpenAI, behaviour: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.responses.create(model=f"sim-{behaviour}", input="hello", stream=stream)

    assert raised.value.status_code in (429, 500, 502, 503)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"]


def test_an_error_behind_text_fails_the_response_and_keeps_the_text(client: OpenAI) -> None:
    response = respond(client, "stream=True", "hello there", model="sim-error-after-text-4")

    assert response.status == "failed"
    assert response.error
    assert "Too many requests" in response.error.message
    assert TEXT.startswith(response.output_text)
    assert response.output_text
    assert response.usage


def test_an_error_behind_text_is_a_status_to_a_client_that_does_not_stream(
    client: OpenAI,
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.responses.create(model="sim-sse-anyway+unfinished-4", input="hello there")

    assert raised.value.status_code >= 500


def test_the_first_words_arrive_while_the_upstream_still_waits(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    stream = client.responses.create(model="sim-gate-first@2", input="hello there", stream=True)
    text = ""
    for event in stream:
        if event.type == "response.output_text.delta":
            text += event.delta
            if text == "You":
                simulator.reached("first")
                simulator.release("first")

    assert text == TEXT


def test_closing_the_stream_cancels_the_answer_upstream(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    with client.responses.create(model="sim-hang-after-3", input="hi", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break

    (received,) = simulator.requests(closed=1)
    assert received["outcome"] == "cancelled"


async def test_the_async_client_streams_and_parses(way: Way) -> None:
    async with way.async_openai() as client:
        plain = await client.responses.create(model=MODEL, input="hello there")
        events = [
            event
            async for event in await client.responses.create(
                model=MODEL, input="hello there", stream=True
            )
        ]
        async with client.responses.stream(
            model=MODEL, input=ASK_FOR_BOTH, tools=[WEATHER, CLOCK]
        ) as stream:
            called = await stream.get_final_response()
        parsed = await client.responses.parse(model=MODEL, input="weather", text_format=Weather)

    assert plain.output_text == TEXT
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == TEXT
    assert [item.type for item in called.output] == ["function_call", "function_call"]
    assert parsed.output_parsed


PROGRAM = """
import openai
with openai.OpenAI() as client:
    with client.responses.stream(model="qwen3-coder-plus", input="hello there") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
"""


def test_an_unmodified_program_needs_no_more_than_its_environment(proxy: Proxy) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": proxy.url,
        "SSL_CERT_FILE": str(proxy.ca),
        "OPENAI_BASE_URL": "https://portal.qwen.ai/v1",
        "OPENAI_API_KEY": CLIENT_KEY,
        "PYTHONIOENCODING": "utf-8",
    }

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout == TEXT
