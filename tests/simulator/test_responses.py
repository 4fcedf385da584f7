from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from qwen_mitm.simulator import Simulator
from tests.responses_checker import check_request

from .chat import WEATHER

TOOL = {"type": "function", **WEATHER["function"]}


def request(text: str = "hello there", **fields: Any) -> dict[str, Any]:
    part = {"type": "input_text", "text": text}
    message = {"type": "message", "role": "user", "content": [part]}
    body = {"model": "qwen3.7-plus", "store": False, "stream": True, "input": [message], **fields}
    check_request(body)
    return body


async def events(client: httpx.AsyncClient, **fields: Any) -> list[Any]:
    answer = await client.post("/responses", json=request(**fields))
    assert answer.status_code == 200, answer.text
    frames = answer.text.strip().split("\n\n")
    return [json.loads(frame.partition("data: ")[2]) for frame in frames]


async def test_the_official_client_reads_what_it_says(simulator: Simulator) -> None:
    async with openai.AsyncOpenAI(
        api_key="token-for-tests",
        base_url=simulator.base_url,
        http_client=openai.DefaultAsyncHttpxClient(verify=False, trust_env=False),
    ) as client:
        async with client.responses.stream(model="qwen3.7-plus", input="hello") as stream:
            response = await stream.get_final_response()
        assert "hello" in response.output_text
        whole = await client.responses.create(model="qwen3.7-plus", input="hello")
        assert whole.output_text == response.output_text


async def test_thoughts_and_calls_are_items(client: httpx.AsyncClient) -> None:
    made = await events(client, text="call:get_weather", tools=[TOOL], reasoning={"effort": "low"})
    done = [event["item"]["type"] for event in made if event["type"].endswith("item.done")]
    assert done == ["reasoning", "function_call"]
    assert [event["sequence_number"] for event in made] == list(range(len(made)))
    assert made[-1]["type"] == "response.completed"


async def test_it_searches_the_web_when_it_may(client: httpx.AsyncClient) -> None:
    made = await events(client, text="search the web", tools=[{"type": "web_search"}])
    assert made[-1]["response"]["output"][0]["type"] == "web_search_call"
    assert "response.output_text.annotation.added" in {event["type"] for event in made}


@pytest.mark.parametrize(
    "fields",
    [
        {"background": True},
        {"previous_response_id": "resp_1"},
        {"input": []},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
    ],
)
async def test_what_it_does_not_take_is_refused(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    body = {"model": "qwen3.7-plus", "input": "hi", **fields}
    assert (await client.post("/responses", json=body)).status_code == 400


async def test_tools_that_it_does_not_know_are_as_good_as_not_offered(
    client: httpx.AsyncClient,
) -> None:
    body = {"model": "m", "input": "call:patch", "tools": [{"type": "custom", "name": "patch"}]}
    output = (await client.post("/responses", json=body)).json()["output"]
    assert [item["type"] for item in output] == ["message"]


async def test_an_answer_fails_behind_its_beginning(client: httpx.AsyncClient) -> None:
    made = await events(client, model="sim-response-failed")
    assert [event["type"] for event in made][-1] == "response.failed"
    assert len(made) == 3
