import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import Simulator

from .web import HEADERS, create, events, new_chat, parent_of, say, text_of


@pytest.fixture
async def site(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=simulator.url, headers=HEADERS, trust_env=False
    ) as client:
        yield client


async def test_a_stream_has_the_shapes_of_the_site(site: httpx.AsyncClient) -> None:
    answer = await say(site, await create(site), "say one two")
    first, *rest, last = events(answer)
    assert set(first) == {"response.created"}
    assert set(first["response.created"]) == {"chat_id", "parent_id", "response_id"}
    assert [event["usage"]["output_tokens"] for event in rest] == [1, 2, 2, 2]
    assert [event["choices"][0]["delta"]["content"] for event in rest[-2:]] == ["", ""]
    assert "usage" not in last
    assert last["choices"][0]["delta"]["status"] == "finished"
    assert "[DONE]" not in answer.text


async def test_the_model_knows_its_own_branch_alone(site: httpx.AsyncClient) -> None:
    chat_id = await create(site)
    first = await say(site, chat_id, "My favourite colour is blue.")
    asked = await say(site, chat_id, "What is my favourite colour?", parent_of(first))
    afresh = await say(site, chat_id, "What is my favourite colour?")
    assert text_of(asked) == "Your favourite colour is blue."
    assert text_of(afresh) == "I do not know that."


async def test_a_parent_that_is_not_there_breaks_the_chain(site: httpx.AsyncClient) -> None:
    chat_id = await create(site)
    first = await say(site, chat_id, "Hello")
    wrong = events(first)[0]["response.created"]["response_id"]
    answer = await say(site, chat_id, "Hello", wrong)
    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert "is not exist" in answer.json()["data"]["details"]


@pytest.mark.parametrize(
    "fields",
    [{"timestamp": 1_761_484_022}, {"chat_mode": "loud"}, {"models": []}, {"title": None}],
)
async def test_a_chat_with_a_wrong_field_is_a_bad_request(
    site: httpx.AsyncClient, fields: dict[str, object]
) -> None:
    answer = await site.post("/api/v2/chats/new", json=new_chat(**fields))
    assert answer.json()["data"]["code"] == "Bad_Request"


@pytest.mark.parametrize(
    "fields",
    [{"timestamp": 1_761_484_022_218}, {"stream": False}, {"messages": []}, {"version": "1"}],
)
async def test_a_message_with_a_wrong_field_is_a_bad_request(
    site: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    answer = await say(site, await create(site), "Hello", **fields)
    assert answer.json()["data"]["code"] == "Bad_Request"


async def test_the_version_of_the_interface_is_mandatory(site: httpx.AsyncClient) -> None:
    del site.headers["version"]
    answer = await site.post("/api/v2/chats/new", json=new_chat())
    assert answer.json()["data"]["code"] == "Bad_Request"


async def test_logins_are_asked_for_and_expire(
    simulator: Simulator, site: httpx.AsyncClient
) -> None:
    simulator.web.logins = {"fake-umidtoken": "work"}
    chat_id = await create(site)
    assert simulator.web.chats[chat_id].account == "work"
    simulator.web.expired.add("fake-umidtoken")
    assert (await site.post("/api/v2/chats/new", json=new_chat())).status_code == 401
    simulator.web.logins = {"another": "home"}
    assert (await say(site, chat_id, "Hello")).status_code == 401


async def test_calls_are_text_and_need_a_description(site: httpx.AsyncClient) -> None:
    wish = 'call get_weather {"city": "Rome"}'
    described = '<tools>\n{"name":"get_weather","parameters":{}}\n</tools>\n\n' + wish
    assert "<tool_call>" in text_of(await say(site, await create(site), described))
    assert "<tool_call>" not in text_of(await say(site, await create(site), wish))


@pytest.mark.parametrize(
    ("behaviour", "status", "words"),
    [
        ("rate-limited-3", 200, '"num": 3'),
        ("bad-request", 200, "Bad_Request"),
        ("waf", 200, "aliyun_waf"),
        ("waf-405", 405, "aliyun_waf"),
        ("504", 504, "<html>"),
        ("401", 401, "detail"),
    ],
)
async def test_errors_come_on_demand(
    site: httpx.AsyncClient, behaviour: str, status: int, words: str
) -> None:
    answer = await say(site, await create(site), "Hello", model=f"sim-{behaviour}")
    assert answer.status_code == status
    assert words in answer.text


async def test_thinking_comes_first_and_has_an_end_of_its_own(site: httpx.AsyncClient) -> None:
    answer = await say(site, await create(site), "say yes", model="sim-think")
    assert text_of(answer, "think") == "Let me think."
    assert text_of(answer) == "yes"
    ends = [e for e in events(answer) if "finished" in str(e)]
    assert len(ends) == 2


async def test_turns_at_the_same_time_are_counted(
    simulator: Simulator, site: httpx.AsyncClient
) -> None:
    chat_id = await create(site)
    async with asyncio.TaskGroup() as group:
        group.create_task(say(site, chat_id, "say a b", model="sim-gate-held@1"))
        await simulator.reached("held")
        await say(site, chat_id, "say c")
        simulator.release("held")
    assert simulator.web.chats[chat_id].overlaps == 1


async def test_models_are_listed_for_cookies_alone(site: httpx.AsyncClient) -> None:
    del site.headers["bx-umidtoken"]
    answer = await site.get("/api/models")
    assert {model["id"] for model in answer.json()["data"]} == {"qwen3-max", "qwen3-coder-plus"}
    del site.headers["cookie"]
    assert (await site.get("/api/models")).status_code == 401
