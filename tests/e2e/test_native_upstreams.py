"""Hosts that speak Responses themselves, through a real mitmdump, beside those that speak Chat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import check_chat
from tests.e2e.accounts import AccountsOfTest, Entry, accounts_of, ask, leaks, log_of
from tests.e2e.clients import Way
from tests.e2e.conftest import StartProxy
from tests.e2e.proxy import Proxy
from tests.event_checker import Event, check_events, events_of
from tests.responses_checker import check_request

MODEL = "qwen3.7-plus"
PATCH: dict[str, Any] = {"type": "custom", "name": "apply_patch", "description": "Edits files."}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
NATIVE = {"provider": "dashscope", "wire": "responses"}
CHAT = {"provider": "dashscope"}
ORDERS = ("chat first", "responses first")


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as those:
        yield those


def started(start_proxy: StartProxy, accounts: AccountsOfTest, *entries: Entry) -> Proxy:
    accounts.write(*entries)
    return start_proxy(
        env=accounts.env,
        options={**accounts.options, "qwen_rotation_strategy": "sequential"},
    )


@pytest.fixture
def client(start_proxy: StartProxy, accounts: AccountsOfTest) -> Iterator[OpenAI]:
    proxy = started(start_proxy, accounts, accounts.key("studio", **NATIVE))
    with Way(proxy).openai() as client:
        yield client
    log_of(proxy)


def received(simulator: SimulatorProcess) -> list[Any]:
    """Checked requests; each for the endpoint that it was sent to."""
    listed: list[Any] = simulator.requests()
    for request in listed:
        if request["path"].endswith("/responses"):
            check_request(request["json"])
        else:
            check_chat(request["json"])
    return listed


def checked(stream: bytes) -> list[Event]:
    events = events_of(stream)
    check_events(events, native=True)
    return events


def test_text_thoughts_and_usage_reach_the_official_client(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    with client.responses.stream(
        model=MODEL,
        input="hello there",
        instructions="Be brief.",
        reasoning={"effort": "low", "summary": "auto"},
        metadata={"a": "b"},
    ) as stream:
        response = stream.get_final_response()
    whole = client.responses.create(model=MODEL, input="hello there")

    assert "hello there" in response.output_text
    assert whole.output_text == response.output_text
    assert response.output[0].type == "reasoning"
    assert response.output[0].summary[0].text.startswith("The user wants")
    assert response.metadata == {"a": "b"}
    assert response.instructions == "Be brief."
    assert response.usage
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert response.id.startswith("resp_")
    first, _ = received(simulator)
    assert first["path"] == "/v1/responses"
    assert first["json"]["input"][0]["role"] == "system"
    assert "metadata" not in first["json"]


def test_a_freeform_tool_is_called_and_its_output_goes_back(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    tools: Any = [PATCH]
    first = client.responses.create(
        model=MODEL, input='call:apply_patch{"input": "*** Begin\\n+ é"}', tools=tools
    )
    (call,) = first.output
    assert call.type == "custom_tool_call"
    assert call.input == "*** Begin\n+ é"

    output: Any = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Done."}
    second = client.responses.create(
        model=MODEL, input=[output], tools=tools, previous_response_id=first.id
    )

    assert "Done." in second.output_text
    assert second.previous_response_id == first.id
    last = received(simulator)[-1]["json"]
    kinds = [item["type"] for item in last["input"]]
    assert kinds == ["message", "function_call", "function_call_output"]
    assert "previous_response_id" not in last


def test_the_hosts_own_search_is_used_and_its_sources_come_along(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    response = client.responses.create(
        model=MODEL,
        input="search the web",
        tools=[{"type": "web_search"}, WEATHER],  # type: ignore[list-item]
    )
    search, message = response.output
    assert search.type == "web_search_call"
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    assert message.content[0].annotations[0].type == "url_citation"
    (request,) = received(simulator)
    assert {"type": "web_search"} in request["json"]["tools"]


@pytest.mark.parametrize(
    ("fault", "status"), [("sim-429", 429), ("sim-503", 503), ("sim-response-failed", 429)]
)
def test_a_failure_keeps_its_status(
    start_proxy: StartProxy, accounts: AccountsOfTest, fault: str, status: int
) -> None:
    entry = accounts.key("own", provider="generic", wire="responses")
    proxy = started(start_proxy, accounts, entry)
    with Way(proxy).http() as http:
        answer = ask(http, fault)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("fault", ["drop-6", "eof-6", "error-after-text-6", "response-failed-6"])
def test_a_stream_that_breaks_off_ends_as_it_must(
    start_proxy: StartProxy, accounts: AccountsOfTest, fault: str
) -> None:
    entry = accounts.key("own", provider="generic", wire="responses")
    proxy = started(start_proxy, accounts, entry)
    with Way(proxy).http() as http:
        events = checked(ask(http, f"sim-{fault}").content)
    assert events[-1]["type"] == "response.failed"
    assert any(event["type"] == "response.output_text.delta" for event in events)


FAULTS = [(o, f) for o in ORDERS for f in ("429", "503", "error-first", "drop-first")]


@pytest.mark.parametrize(("order", "fault"), [*FAULTS, ("responses first", "response-failed")])
def test_the_next_account_answers_whichever_api_it_speaks(
    start_proxy: StartProxy,
    accounts: AccountsOfTest,
    simulator: SimulatorProcess,
    order: str,
    fault: str,
) -> None:
    kinds = [CHAT, NATIVE] if order == "chat first" else [NATIVE, CHAT]
    entries = [accounts.key(name, **kind) for name, kind in zip("ab", kinds, strict=True)]
    simulator.script([{"behaviour": fault, "times": None, "bearer": "fake-key-a"}])
    proxy = started(start_proxy, accounts, *entries)

    with Way(proxy).http() as http:
        input_ = 'call:apply_patch{"input": "*** Begin"}'
        answer = ask(http, MODEL, input=input_, tools=[PATCH], reasoning={"effort": "none"})

    events = checked(answer.content)
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin")
    paths = [request["path"] for request in received(simulator)]
    expected = ["/v1/chat/completions", "/v1/responses"]
    assert paths == (expected if order == "chat first" else expected[::-1])
    assert leaks(log_of(proxy)) == set()


def test_a_thought_goes_on_with_an_account_of_the_other_api(
    start_proxy: StartProxy, accounts: AccountsOfTest, simulator: SimulatorProcess
) -> None:
    entries = [accounts.key("a", **NATIVE), accounts.key("b", **CHAT)]
    proxy = started(start_proxy, accounts, *entries)
    with Way(proxy).http() as http:
        first = ask(http, MODEL, store=False, reasoning={"effort": "low"})
        output = checked(first.content)[-1]["response"]["output"]
        assert output[0]["encrypted_content"].startswith("qm1.")
        simulator.script([{"behaviour": "429", "times": None, "bearer": "fake-key-a"}])
        said = [{"role": "user", "content": "hello there"}, *output]
        said.append({"role": "user", "content": "go on"})
        second = ask(http, MODEL, store=False, input=said)

    assert second.status_code == 200
    *_, native, chat = received(simulator)
    thought = output[0]["content"][0]["text"]
    assert native["json"]["input"][1]["summary"][0]["text"] == thought
    assert chat["json"]["messages"][1]["reasoning_content"] == thought


def test_a_model_that_the_host_has_in_chat_alone_is_asked_there(
    start_proxy: StartProxy, accounts: AccountsOfTest, simulator: SimulatorProcess
) -> None:
    proxy = started(start_proxy, accounts, accounts.key("studio", **NATIVE))
    with Way(proxy).http() as http:
        assert ask(http, "deepseek-v4-flash").status_code == 200
    assert [request["path"] for request in received(simulator)] == ["/v1/chat/completions"]
