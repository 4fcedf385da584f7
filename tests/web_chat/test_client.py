import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from qwen_mitm.simulator import Simulator
from qwen_mitm.web_chat.client import WebChatClient, open_http
from qwen_mitm.web_chat.envelope import completion_payload
from qwen_mitm.web_chat.errors import (
    CredentialsBlocked,
    CredentialsExpired,
    ProtocolChanged,
    RateLimited,
    Unavailable,
    WebChatError,
)
from qwen_mitm.web_chat.payloads import Completion
from qwen_mitm.web_chat.retry import RetryPolicy
from qwen_mitm.wire.chat import ChatChunk, EndOfAnswer
from tests.web_chat.keys import credentials
from tests.web_chat.pieces import WEATHER, chat, created, finished, piece, user

CHAT_ID = "1c0f1b9e-0000-4000-8000-00000000000f"
LOGIN = credentials("0001", 2_000_000_000)


class Site:
    """A client of a simulator; pauses are noted and not waited for."""

    def __init__(self, simulator: Simulator, http: httpx.AsyncClient) -> None:
        self.simulator = simulator
        self.pauses: list[float] = []
        self.now = 1_790_000_000.0
        self.client = WebChatClient(
            http,
            simulator.url,
            LOGIN,
            RetryPolicy(most=2),
            now=lambda: self.now,
            sleep=self._sleep,
            chance=lambda: 1.0,
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def message(
        self, content: str, parent_id: str | None = None, *, chat_id: str = "", model: str = "m"
    ) -> Completion:
        chat_id = chat_id or await self.client.create_chat(model=model, key="0123456789")
        return completion_payload(
            chat(user(content), model=model),
            LOGIN,
            content,
            chat_id=chat_id,
            parent_id=parent_id,
            fid="f",
            now_s=int(self.now),
        )


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(tls=False))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        yield Site(simulator, http)


async def test_a_chat_is_made_with_the_credentials_and_our_own_name(site: Site) -> None:
    chat_id = await site.client.create_chat(model="qwen3-max", key="0123456789")
    made = site.simulator.web.chats[chat_id]
    assert (made.title, made.mode) == ("Conversation 01234567", "normal")
    (request,) = site.simulator.requests
    assert request.header("bx-umidtoken") == "fake-umidtoken-0001"
    assert (request.header("cookie") or "").startswith("acw_tc=fake-acw-0001; token=")
    assert (request.header("authorization") or "").startswith("Bearer ")
    assert request.header("version")
    assert (request.header("user-agent") or "").startswith("qwen-mitm/")
    names = {name.lower() for name, _ in request.headers}
    assert not {name for name in names if name.startswith(("sec-", "bx-ua", "bx-v"))}


async def test_a_whole_answer_has_its_text_its_parent_and_its_usage(site: Site) -> None:
    reply = await site.client.send_message(await site.message("say one two"))
    assert reply.said.message.content == "one two"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (33, 2)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("form", ["", "sim-document"])
async def test_a_follow_up_goes_on_from_the_parent(site: Site, form: str) -> None:
    model = form or "m"
    first = await site.message("My favourite colour is blue.", model=model)
    reply = await site.client.send_message(first)
    parent_id = reply.said.parent_id
    asked = await site.message(
        "What is my favourite colour?", parent_id, chat_id=first.chat_id, model=model
    )
    assert (
        await site.client.send_message(asked)
    ).said.message.content == "Your favourite colour is blue."


async def test_thoughts_are_apart_from_the_answer(site: Site) -> None:
    reply = await site.client.send_message(await site.message("say yes", model="sim-think"))
    assert (reply.thought, reply.said.message.content) == ("Let me think.", "yes")


async def test_a_stream_is_given_out_as_it_arrives(site: Site) -> None:
    message = await site.message("say one two", model="sim-gate-held@1")
    parts = site.client.stream_message(message)
    first = await anext(parts)
    assert isinstance(first, ChatChunk)
    assert first.choices[0].delta.content == "one "
    await site.simulator.reached("held")
    site.simulator.release("held")
    rest = [part async for part in parts]
    assert isinstance(rest[-1], EndOfAnswer)


async def test_calls_are_found_in_a_stream(site: Site) -> None:
    content = '<tools>\n{"name":"get_weather"}\n</tools>\n\ncall get_weather {"city": "Rome"}'
    offered = {WEATHER.name: WEATHER.parameters}
    stream = site.client.stream_message(await site.message(content), offered)
    chunks = [part async for part in stream if isinstance(part, ChatChunk)]
    calls = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", '{"city":"Rome"}')]


@pytest.mark.parametrize("behaviour", ["cut@1", "drop@1"])
async def test_an_answer_that_breaks_off_is_no_answer(site: Site, behaviour: str) -> None:
    message = await site.message("say one two", model=f"sim-{behaviour}")
    with pytest.raises(Unavailable):
        await site.client.send_message(message)
    site.client.policy = RetryPolicy(most=0)
    with pytest.raises(Unavailable):
        [part async for part in site.client.stream_message(message)]


@pytest.mark.parametrize("behaviour", ["429", "503", "504"])
async def test_what_passes_is_tried_again(site: Site, behaviour: str) -> None:
    site.simulator.web.script(new=[behaviour])
    assert await site.client.create_chat(model="m", key="k")
    assert site.pauses == [1]


async def test_cookies_that_the_site_sets_do_not_take_the_place_of_the_users(site: Site) -> None:
    line = {"status": 503, "headers": {"set-cookie": "acw_tc=other; Path=/"}, "body": "{}"}
    site.simulator.web.script(new=[line])
    await site.client.create_chat(model="m", key="k")
    first, second = site.simulator.requests
    assert first.header("cookie") == second.header("cookie") == LOGIN.headers()["cookie"]


async def test_the_sites_own_pause_is_kept(site: Site) -> None:
    site.simulator.web.script(new=["429-after-3"])
    await site.client.create_chat(model="m", key="k")
    assert site.pauses == [3]


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("401", CredentialsExpired),
        ("403", CredentialsExpired),
        ("waf", CredentialsBlocked),
        ("waf-405", CredentialsBlocked),
        ("waf-503", CredentialsBlocked),
        ("bad-request", ProtocolChanged),
        ("rate-limited-4", RateLimited),
        ("500", Unavailable),
    ],
)
async def test_what_does_not_pass_is_not_tried_again(
    site: Site, behaviour: str, kind: type[WebChatError]
) -> None:
    site.simulator.web.script(new=[behaviour, behaviour])
    with pytest.raises(kind):
        await site.client.create_chat(model="m", key="k")
    assert site.pauses == []
    assert len(site.simulator.requests) == 1


async def test_a_site_that_is_not_there_is_tried_again_and_then_told(site: Site) -> None:
    site.client.base_url = "http://127.0.0.1:1"
    with pytest.raises(Unavailable, match="was lost"):
        await site.client.create_chat(model="m", key="k")
    assert site.pauses == [1, 2]


async def test_retries_are_in_the_log_and_nothing_secret_is(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.simulator.web.script(new=["503", "401"])
    with caplog.at_level(logging.DEBUG), pytest.raises(CredentialsExpired) as caught:
        await site.client.create_chat(model="m", key="k")
    assert "503" in caplog.text
    text = f"{caplog.text} {caught.value!r} {caught.value.__dict__} {site.client!r}"
    assert "fake-" not in text


async def test_an_answer_that_quotes_the_credentials_is_cleaned(site: Site) -> None:
    quoted = '{"success":false,"data":{"code":"x","details":"no fake-umidtoken-0001 here"}}'
    site.simulator.web.script(new=[{"body": quoted}])
    with pytest.raises(Unavailable) as caught:
        await site.client.create_chat(model="m", key="k")
    assert "fake-" not in caught.value.message


@pytest.mark.parametrize("body", ["[]", '{"success":true}', "hello", '{"data":{"id":""}}'])
async def test_an_answer_without_a_chat_is_an_error(site: Site, body: str) -> None:
    site.simulator.web.script(new=[{"body": body}])
    with pytest.raises((ProtocolChanged, Unavailable)):
        await site.client.create_chat(model="m", key="k")


async def test_the_catalogue_is_asked_for_once_an_hour(site: Site) -> None:
    models = await site.client.list_models()
    assert [model["id"] for model in models] == ["qwen3-max", "qwen3-coder-plus"]
    site.now += 3599
    assert await site.client.list_models() == models
    assert len(site.simulator.requests) == 1
    site.now += 1
    await site.client.list_models()
    assert len(site.simulator.requests) == 2


async def test_a_catalogue_that_cannot_be_had_is_no_catalogue(site: Site) -> None:
    site.simulator.web.script(models=["waf", {"body": '{"data": "none"}'}])
    with pytest.raises(CredentialsBlocked):
        await site.client.list_models()
    with pytest.raises(ProtocolChanged):
        await site.client.list_models()


async def test_health_is_what_the_site_says_now(site: Site) -> None:
    assert (await site.client.health_check()).is_well
    site.simulator.web.script(models=["401"])
    health = await site.client.health_check()
    assert not health.is_well
    assert isinstance(health.error, CredentialsExpired)


async def test_the_simple_chat_of_the_specification(site: Site) -> None:
    reply = await site.client.chat(chat(user("say hi"), temperature=0.7), "say hi")
    assert reply.said.message.content == "hi"
    sent = site.simulator.requests[-1].json
    assert sent["temperature"] == 0.7


async def test_the_real_connection_follows_no_redirect_and_is_http1() -> None:
    async with open_http() as http:
        assert not http.follow_redirects


def test_pauses_are_never_longer_than_the_policy_says() -> None:
    assert [RetryPolicy().pause(number, 1.0) for number in range(6)] == [1, 2, 4, 8, 10, 10]


async def test_cookies_that_the_site_sets_are_not_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(tls=False))
        headers = {"set-cookie": "token=fake-fresh-cookie"}
        made = {"success": True, "data": {"id": CHAT_ID}}
        simulator.web.script(new=[{"body": json.dumps(made), "headers": headers}])
        http = await stack.enter_async_context(open_http(trust_env=False))
        client = WebChatClient(http, simulator.url, LOGIN)
        assert await client.create_chat(model="m", key="0123456789") == CHAT_ID
    assert "/api/v2/chats/new" in caplog.text
    assert "fake-fresh-cookie" not in caplog.text


class _Unended(httpx.AsyncByteStream):
    """An answer whose connection stays open."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield created() + piece("Yes.") + finished()
        await asyncio.Event().wait()


async def test_an_answer_is_over_although_the_site_does_not_hang_up() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=_Unended())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        made = Site(Simulator(tls=False), http)
        async with asyncio.timeout(20):
            payload = await made.message("Well?", chat_id=CHAT_ID)
            reply = await made.client.send_message(payload)
            parts = [part async for part in made.client.stream_message(payload)]
    assert reply.said.message.content == "Yes."
    assert isinstance(parts[-1], EndOfAnswer)
