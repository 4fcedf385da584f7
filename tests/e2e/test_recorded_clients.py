"""Requests that real clients sent, with their own headers, through a real mitmdump."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import check_chat
from tests.e2e.clients import Way, checked_events, final, header, text_of, thoughts_of
from tests.e2e.conftest import FAKE_KEY
from tests.e2e.proxy import Proxy

FIXTURES = Path(__file__).parents[1] / "fixtures"
HEADERS = json.loads((FIXTURES / "clients" / "headers.json").read_text("utf-8"))
#: What each client shows of thoughts.
SUMMARIES = {"ai-sdk", "codex", "opencode"}
#: Means something to OpenAI or to the client alone.
OF_THE_CLIENT = (
    "x-codex-",
    "x-session-",
    "session-id",
    "thread-id",
    "originator",
    "x-client-request-id",
    "openai-",
    "cookie",
    "proxy-",
)
#: A request that an upstream sees has nothing else.
CHAT_KEYS = {
    "enable_thinking",
    "max_tokens",
    "messages",
    "model",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "stream",
    "stream_options",
    "thinking_budget",
    "tool_choice",
    "tools",
}


@dataclass(frozen=True)
class Recorded:
    name: str
    client: str
    body: dict[str, Any]


def recorded() -> Iterator[Recorded]:
    for file in sorted((FIXTURES / "captures").glob("*.json")):
        client = max((c for c in HEADERS if file.name.startswith(f"{c}-")), key=len)
        for number, body in enumerate(json.loads(file.read_text("utf-8"))):
            # Stored responses are not there yet.
            if "previous_response_id" not in body:
                yield Recorded(f"{file.stem}-{number}", client, body)


ALL = {each.name: each for each in recorded()}


@pytest.fixture(scope="session")
def https(proxy: Proxy) -> Iterator[dict[bool, httpx.Client]]:
    with Way(proxy).http() as http1, Way(proxy).http(http2=True) as http2:
        yield {False: http1, True: http2}


def replay(https: dict[bool, httpx.Client], request: Recorded, **changed: Any) -> httpx.Response:
    how = HEADERS[request.client]
    body = json.dumps(request.body | changed, ensure_ascii=False).encode()
    return https[how["http2"]].post("/responses", content=body, headers=how["headers"])


def tools_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the request, and of the item that has them in the lite form."""
    items = body["input"] if isinstance(body["input"], list) else []
    more = [item["tools"] for item in items if item.get("type") == "additional_tools"]
    return [*body.get("tools", ()), *(tool for tools in more for tool in tools)]


@pytest.mark.parametrize("name", ALL)
def test_a_recorded_request_is_answered(
    https: dict[bool, httpx.Client], simulator: SimulatorProcess, name: str
) -> None:
    request = ALL[name]

    answer = replay(https, request)

    response = final(answer)
    assert response["status"] == "completed"
    assert text_of(response)
    assert answer.headers["content-type"].startswith(
        "text/event-stream" if request.body.get("stream") else "application/json"
    )
    (received,) = simulator.requests()
    check_chat(received["json"], "generic")
    assert header(received, "authorization") == f"Bearer {FAKE_KEY}"
    names = [key.lower() for key, _ in received["headers"]]
    assert [key for key in names if key.startswith(OF_THE_CLIENT)] == []
    assert len(names) == len(set(names))
    assert header(received, "user-agent") == HEADERS[request.client]["headers"]["user-agent"]
    assert received["json"].keys() <= CHAT_KEYS
    # What the model cannot be offered is named.
    kinds = {tool["type"] for tool in tools_of(request.body)}
    warnings = answer.headers.get("x-bridge-warnings", "")
    assert ("web_search" in warnings) is ("web_search" in kinds)
    declared = [t for t in request.body.get("tools", ()) if t["type"] in ("function", "custom")]
    offered = [t["function"]["name"] for t in received["json"].get("tools", ())]
    assert {tool["name"] for tool in declared} <= set(offered)


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name].body.get("stream")])
def test_thoughts_come_in_the_form_that_the_client_shows(
    https: dict[bool, httpx.Client], name: str
) -> None:
    request = ALL[name]
    asked = (request.body.get("reasoning") or {}).get("summary")

    events = checked_events(replay(https, request, model="sim-reasoning"))

    response = events[-1]["response"]
    assert thoughts_of(response)
    types = {event["type"] for event in events}
    summarised = request.client in SUMMARIES or asked is not None
    assert ("response.reasoning_summary_text.delta" in types) is summarised
    assert ("response.reasoning_text.delta" in types) is not summarised


CALLERS = [n for n in ALL if ALL[n].body.get("stream") and ALL[n].body.get("tools")]


@pytest.mark.parametrize("name", CALLERS)
def test_each_offered_tool_can_be_called(https: dict[bool, httpx.Client], name: str) -> None:
    request = ALL[name]
    kinds = {"function": "function_call", "custom": "custom_tool_call"}
    declared = [t for t in request.body["tools"] if t["type"] in kinds]
    tools = [(kinds[t["type"]], t["name"]) for t in declared]
    wanted = " ".join(f"call:{tool}{{}}" for _, tool in tools)
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": wanted}]}

    events = checked_events(replay(https, request, input=[*request.body["input"], said]))

    calls = [i for i in events[-1]["response"]["output"] if i["type"] in kinds.values()]
    parallel = request.body.get("parallel_tool_calls") is not False
    made = [(call["type"], call["name"]) for call in calls]
    assert made == (tools if parallel else tools[:1])


PATCHERS = [n for n in ALL if any(t["type"] == "custom" for t in ALL[n].body.get("tools", ()))]


@pytest.mark.parametrize("name", PATCHERS)
def test_a_patch_reaches_codex_as_the_text_that_it_is(
    https: dict[bool, httpx.Client], name: str
) -> None:
    request = ALL[name]
    patch = '*** Begin Patch\n+a "b" \\ \U0001f600\n*** End Patch'
    wanted = f"call:apply_patch{json.dumps({'input': patch})}"
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": wanted}]}

    events = checked_events(replay(https, request, input=[*request.body["input"], said]))

    (call,) = events[-1]["response"]["output"]
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "apply_patch", patch)


@pytest.mark.parametrize("client", HEADERS)
def test_each_client_gets_a_refusal_and_a_lost_upstream_in_its_words(
    https: dict[bool, httpx.Client], client: str
) -> None:
    request = next(each for each in ALL.values() if each.client == client)

    refused = replay(https, request, model="sim-429-quota+retry-after-5", stream=True)
    lost = checked_events(replay(https, request, model="sim-drop-4", stream=True))

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert lost[-1]["type"] == "response.failed"
    assert lost[-1]["response"]["error"]["code"]
