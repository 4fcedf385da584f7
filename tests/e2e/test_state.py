"""What is stored of the answers, through a real mitmdump, by the official client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import FunctionToolParam, Response

from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import check_chat
from tests.e2e.clients import Way
from tests.e2e.conftest import StartProxy, account_of, trust
from tests.e2e.proxy import Proxy

MODEL = "qwen3-coder-plus"
CLOCK: FunctionToolParam = {
    "type": "function",
    "name": "get_time",
    "parameters": {"type": "object", "properties": {"tz": {"type": "string"}}},
    "strict": False,
}

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="session", params=["regular", "reverse"])
def client(request: pytest.FixtureRequest, proxy: Proxy, reverse_proxy: Proxy) -> Iterator[OpenAI]:
    way = Way(proxy) if request.param == "regular" else Way(reverse_proxy, reverse=True)
    with way.openai() as client:
        yield client


# The client's own types have too many overloads for arguments that vary.
def respond(client: OpenAI, said: Any, *, stream: bool, **options: Any) -> Response:
    arguments: dict[str, Any] = {"model": MODEL, "input": said, **options}
    if not stream:
        response = client.responses.create(**arguments)
        assert isinstance(response, Response)
        return response
    last: Any
    with client.responses.stream(**arguments) as events:
        *_, last = events
    assert isinstance(last.response, Response)
    return last.response


each_way = pytest.mark.parametrize("stream", [False, True], ids=["create", "stream()"])


@each_way
def test_a_tool_round_trip_sends_only_what_is_new(
    client: OpenAI, stream: bool, simulator: SimulatorProcess
) -> None:
    asked = respond(client, 'call:get_time{"tz": "CET"}', stream=stream, tools=[CLOCK])
    call = next(item for item in asked.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}
    answered = respond(
        client,
        [output],
        stream=stream,
        tools=[CLOCK],
        instructions="Be brief.",
        previous_response_id=asked.id,
    )

    assert answered.status == "completed"
    assert answered.previous_response_id == asked.id
    received = simulator.requests(received=2)[-1]["json"]
    check_chat(received, "generic")
    assert [message["role"] for message in received["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert received["messages"][2]["tool_calls"][0]["id"] == call.call_id


def test_a_conversation_forks(client: OpenAI, simulator: SimulatorProcess) -> None:
    first = respond(client, "hello", stream=True)
    for said in ("left", "right"):
        respond(client, said, stream=True, previous_response_id=first.id)
    *_, left, right = simulator.requests(received=3)
    assert [m["content"] for m in left["json"]["messages"][::2]] == ["hello", "left"]
    assert [m["content"] for m in right["json"]["messages"][::2]] == ["hello", "right"]


@each_way
def test_a_stored_response_is_the_one_that_was_sent(client: OpenAI, stream: bool) -> None:
    sent = respond(client, "hello", stream=stream, instructions="Be brief.", tools=[CLOCK])
    got = client.responses.retrieve(sent.id)
    # The helper adds what it parsed to the output.
    assert [item.id for item in got.output] == [item.id for item in sent.output]
    assert got.output_text == sent.output_text
    assert got.to_dict() | {"output": []} == sent.to_dict() | {"output": []}


def test_the_stored_response_can_be_had_as_soon_as_the_terminal_event_is_there(
    client: OpenAI,
) -> None:
    def one(number: int) -> bool:
        with client.responses.stream(model=MODEL, input=f"hello {number}") as events:
            for event in events:
                if event.type == "response.completed":
                    return client.responses.retrieve(event.response.id).status == "completed"
        return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(24)))


def test_input_items_are_listed_with_ids(client: OpenAI) -> None:
    first = respond(client, "hello", stream=False)
    second = respond(client, "again", stream=False, previous_response_id=first.id)
    listed = [item.to_dict() for item in client.responses.input_items.list(second.id, limit=1)]
    assert [item["role"] for item in listed] == ["user", "assistant", "user"]
    assert len({item["id"] for item in listed}) == 3


def test_an_item_can_be_referred_to(client: OpenAI, simulator: SimulatorProcess) -> None:
    first = respond(client, "hello", stream=False)
    reference = {"type": "item_reference", "id": first.output[0].id}
    respond(client, [{"role": "user", "content": "x"}, reference], stream=False)
    received = simulator.requests(received=2)[-1]["json"]
    assert received["messages"][1] == {"role": "assistant", "content": first.output_text}


def test_a_deleted_response_is_gone(client: OpenAI) -> None:
    response = respond(client, "hello", stream=False)
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as refused:
        respond(client, "more", stream=False, previous_response_id=response.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


@each_way
def test_nothing_is_kept_of_a_response_that_is_not_to_be_stored(
    client: OpenAI, stream: bool
) -> None:
    response = respond(client, "hello", stream=stream, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError):
        respond(client, "more", stream=stream, previous_response_id=response.id)


def test_a_response_cannot_be_cancelled_and_tokens_are_counted(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    response = respond(client, "hello", stream=False)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(response.id)
    few = client.responses.input_tokens.count(input="hello").input_tokens
    more = client.responses.input_tokens.count(
        input="hello", previous_response_id=response.id
    ).input_tokens
    assert 0 < few < more
    assert len(simulator.requests(received=1)) == 1


def test_tokens_are_counted_without_an_account(start_proxy: StartProxy) -> None:
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:,a"}
    said: Any = [{"role": "user", "content": [file]}]
    with Way(start_proxy()).openai() as client:
        assert client.responses.input_tokens.count(input=said).input_tokens > 0
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL, input="hello")
    assert refused.value.code == "no_usable_account"


def test_conversations_do_not_exist(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.conversations.create()
    with pytest.raises(openai.BadRequestError) as refused:
        respond(client, "hello", stream=False, conversation="conv_1")
    assert refused.value.param == "conversation"


def test_responses_outlive_the_proxy(start_proxy: StartProxy, simulator: SimulatorProcess) -> None:
    settings: dict[str, Any] = {"env": account_of(simulator), "options": trust(simulator)}
    first = start_proxy(**settings)
    with Way(first).openai() as client:
        before = respond(client, "hello", stream=True)
    second = start_proxy(**settings)
    with Way(second).openai() as client:
        after = respond(client, "again", stream=True, previous_response_id=before.id)
    assert after.status == "completed"
    assert len(simulator.requests(received=2)[-1]["json"]["messages"]) == 3
