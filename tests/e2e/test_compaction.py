"""Compaction through a real mitmdump: what the client gets, and what the model sees afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import check_chat
from tests.e2e.accounts import accounts_of, chats, served
from tests.e2e.clients import Way, checked_events, error_of, final
from tests.e2e.conftest import StartProxy, account_of, trust
from tests.e2e.proxy import Proxy
from tests.event_checker import check_events, events_of

MODEL = "qwen3-coder-plus"
SUMMARY = "Summary of the conversation so far."
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
# What the official client types as one of many TypedDicts.
HISTORY: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Where is it?"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "in a.py"},
    {"role": "assistant", "content": "In a.py."},
]
TRIGGER: Any = {"type": "compaction_trigger"}

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="session")
def client(proxy: Proxy) -> Iterator[OpenAI]:
    with Way(proxy).openai() as client:
        yield client


def test_a_compacted_conversation_goes_on(client: OpenAI, simulator: SimulatorProcess) -> None:
    done = client.responses.compact(model=MODEL, input=HISTORY)

    assert done.object == "response.compaction"
    assert done.usage.total_tokens > 0
    message, compaction = (item.to_dict(warnings=False) for item in done.output)
    assert message["role"] == "user"
    assert message["content"] == [{"type": "input_text", "text": "Where is it?"}]
    assert compaction["type"] == "compaction"
    assert str(compaction["id"]).startswith("cmp_")
    assert str(compaction["encrypted_content"]).startswith("qm1.")

    window: list[Any] = [message, compaction, {"role": "user", "content": "And now?"}]
    assert client.responses.create(model=MODEL, input=window).status == "completed"

    asked, after = (it["json"] for it in simulator.requests(received=2))
    for body in (asked, after):
        check_chat(body)
    assert [m["role"] for m in asked["messages"]] == [
        *("system", "user", "assistant", "tool", "assistant", "user"),
    ]
    first, summary, last = after["messages"]
    assert (first["content"], last["content"]) == ("Where is it?", "And now?")
    # What the simulated model says to the instruction stands for a summary.
    assert summary["content"].startswith(SUMMARY)
    assert "You said “This conversation is about to be replaced" in summary["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_trigger_is_answered_with_one_item(
    proxy: Proxy, simulator: SimulatorProcess, stream: bool
) -> None:
    body = {"model": MODEL, "input": [*HISTORY, TRIGGER], "stream": stream, "store": False}
    with Way(proxy).http() as http:
        response = final(http.post("/responses", json={**body, "tools": [TOOL]}))
        (item,) = response["output"]
        again = final(http.post("/responses", json={"model": MODEL, "input": [item, *HISTORY]}))

    assert item["type"] == "compaction"
    assert (response["status"], again["status"]) == ("completed", "completed")
    asked, after = (it["json"] for it in simulator.requests(received=2))
    check_chat(asked)
    assert asked["tool_choice"] == "none"
    assert SUMMARY in after["messages"][1]["content"]


def test_the_official_client_streams_a_compaction(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=[*HISTORY, TRIGGER]) as events:
        response = events.get_final_response()
    assert [item.type for item in response.output] == ["compaction"]


def test_a_stored_conversation_is_compacted_and_goes_on_from_the_summary(
    client: OpenAI, simulator: SimulatorProcess
) -> None:
    first = client.responses.create(model=MODEL, input="hello")
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    window = client.responses.compact(model=MODEL, previous_response_id=first.id)
    referred = client.responses.compact(
        model=MODEL, input=[{"role": "user", "content": "x"}, reference]
    )
    compacted = client.responses.create(model=MODEL, input=[TRIGGER], previous_response_id=first.id)
    client.responses.create(model=MODEL, input="on", previous_response_id=compacted.id)

    assert [item.type for item in window.output] == ["message", "compaction"]
    assert [item.type for item in referred.output] == ["message", "compaction"]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(window.id)
    bodies = [it["json"]["messages"] for it in simulator.requests(received=5)]
    said = [[m["content"].partition(" ")[0] for m in messages] for messages in bodies]
    assert said == [
        ["hello"],
        ["hello", "You", "This"],
        ["x", "You", "This"],
        ["hello", "You", "This"],
        ["hello", "Summary", "on"],
    ]


def test_thoughts_are_no_part_of_a_summary(client: OpenAI, simulator: SimulatorProcess) -> None:
    done = client.responses.compact(model="qwen3-thinking", input="hello")
    client.responses.create(model=MODEL, input=[it.to_dict(warnings=False) for it in done.output])  # type: ignore[misc]
    summary = simulator.requests(received=2)[-1]["json"]["messages"][1]["content"]
    assert "You said" in summary
    assert "The user wants an answer" not in summary


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [
        ("sim-finish-length", "invalid_prompt", 400),
        ("sim-empty", None, 502),
        ("sim-error-after-text", None, None),
    ],
)
def test_a_summary_that_is_not_whole_is_an_error(
    start_proxy: StartProxy,
    simulator: SimulatorProcess,
    model: str,
    code: str | None,
    status: int | None,
) -> None:
    proxy = start_proxy(env=account_of(simulator), options=trust(simulator))
    with Way(proxy).http() as http:
        refused = http.post("/responses/compact", json={"model": model, "input": "hello"})
        streamed = http.post(
            "/responses",
            json={"model": model, "input": [*HISTORY, TRIGGER], "stream": True},
        )
    assert refused.status_code >= 400
    assert status in (None, refused.status_code)
    assert code in (None, error_of(refused)["code"])
    if streamed.status_code == 200:
        events = checked_events(streamed)
        assert events[-1]["type"] == "response.failed"
        assert events[-1]["response"]["output"] == []
    else:
        error_of(streamed)


def test_a_foreign_compaction_is_refused(client: OpenAI, simulator: SimulatorProcess) -> None:
    item: Any = {"type": "compaction", "encrypted_content": "gAAAAABpM0Yj-foreign"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input=[item])
    assert refused.value.param == "input[0].encrypted_content"
    assert simulator.requests() == []


def test_heartbeats_come_while_the_summary_is_made(
    start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    options = {**trust(simulator), "qwen_heartbeat_seconds": "1"}
    proxy = start_proxy(env=account_of(simulator), options=options)
    body = {"model": "sim-gate-summary@0", "input": [*HISTORY, TRIGGER], "stream": True}
    received = b""
    with Way(proxy).http() as http, http.stream("POST", "/responses", json=body) as answer:
        for piece in answer.iter_raw():
            received += piece
            if b": keep-alive" in piece:
                simulator.reached("summary")
                simulator.release("summary")
    events = events_of(received.replace(b": keep-alive\n\n", b""))
    check_events(events)
    assert events[-1]["type"] == "response.completed"


def test_a_compaction_moves_on_to_the_next_account(
    start_proxy: StartProxy, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    with accounts_of(tmp_path, simulator) as accounts:
        accounts.write(accounts.key("a"), accounts.key("b"))
        proxy = start_proxy(env=accounts.env, options=accounts.options)
        simulator.script([{"behaviour": "429-quota"}])
        with Way(proxy).openai() as client:
            done = client.responses.compact(model=MODEL, input=HISTORY)
        assert done.output[-1].type == "compaction"
        assert len(chats(simulator)) == 2
        assert len(served(simulator)) == 1
        assert "1 failover" in proxy.log
