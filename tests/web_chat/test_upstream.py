import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwen_mitm.accounts.model import Account
from qwen_mitm.exchange import Broken, FailedAnswer, Refused
from qwen_mitm.simulator import Simulator
from qwen_mitm.web_chat.database import database_path
from qwen_mitm.web_chat.errors import (
    ChainBroken,
    CredentialsBlocked,
    CredentialsExpired,
    CredentialsMissing,
    RateLimited,
    Unavailable,
)
from qwen_mitm.web_chat.upstream import PreparedTurn, WebChat
from qwen_mitm.wire.chat import Failure
from qwen_mitm.wire.chat_request import AssistantMessage, ChatRequest
from tests.web_chat.keys import COOKIES, TOKEN, credentials
from tests.web_chat.pieces import chat, user


@asynccontextmanager
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


class Desk:
    """The web chat over a simulator, with one account."""

    def __init__(self, folder: Path, simulator: Simulator, **env: str) -> None:
        self.simulator = simulator
        self.now = 1_790_000_000.0
        state = {"XDG_STATE_HOME": str(folder), "LOCALAPPDATA": str(folder), "HOME": str(folder)}
        self.web = WebChat({**state, **env}, now=lambda: self.now, http=http, sleep=self._sleep)
        self.account = Account(name="web", kind="web_chat", base_url=simulator.url)
        self.file = database_path(state)

    async def _sleep(self, _: float) -> None:
        pass

    async def prepare(self, request: ChatRequest) -> PreparedTurn:
        return await self.web.prepare(request, self.account)

    async def answer(self, turn: PreparedTurn) -> str:
        """Send it and read the answer, as the proxy would."""
        send = turn.send
        url = f"{send.scheme}://{send.host}:{send.port}{send.target}"
        async with http() as client:
            sent = await client.post(url, content=send.body, headers=[*send.headers])
        parts = [*turn.reader.feed(sent.content), *turn.reader.end()]
        if parts and isinstance(parts[-1], Failure):
            return f"failed: {parts[-1].code}"
        chunks = [part for part in parts if hasattr(part, "choices")]
        return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)

    async def say(self, request: ChatRequest) -> str:
        turn = await self.prepare(request)
        answer = await self.answer(turn)
        assert turn.ended(None) is None
        return answer

    def turns(self) -> list[list[str]]:
        return [
            [turn.content for turn in one.turns.values()]
            for one in self.simulator.web.chats.values()
        ]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with Simulator(tls=False) as simulator:
        made = Desk(tmp_path, simulator)
        made.web.credentials.set(credentials())
        yield made
        made.web.close()


BLUE = user("My favourite colour is blue.")
WHICH = user("What is my favourite colour?")


def history(desk: Desk) -> list[Any]:
    answers = [t.answer for c in desk.simulator.web.chats.values() for t in c.turns.values()]
    return [BLUE, AssistantMessage(answers[0])]


async def test_a_conversation_stays_in_its_chat_and_sends_what_is_new(desk: Desk) -> None:
    await desk.say(chat(BLUE, system="Be brief."))
    answer = await desk.say(chat(*history(desk), WHICH, system="Be brief."))
    assert answer == "Your favourite colour is blue."
    ((first, second),) = desk.turns()
    assert "Be brief." in first
    assert second == "What is my favourite colour?"


async def test_a_history_that_nobody_knows_is_told_to_a_new_chat(desk: Desk) -> None:
    answer = await desk.say(chat(BLUE, AssistantMessage("I see."), WHICH))
    assert answer == "Your favourite colour is blue."
    ((only,),) = desk.turns()
    assert "blue" in only


async def test_who_finds_the_chat_busy_gets_one_of_their_own(desk: Desk) -> None:
    await desk.say(chat(BLUE))
    asked = chat(*history(desk), WHICH)
    held = await desk.prepare(asked)
    assert await desk.say(asked) == "Your favourite colour is blue."
    assert await desk.answer(held) == "Your favourite colour is blue."
    assert len(desk.turns()) == 2
    assert all(one.overlaps == 0 for one in desk.simulator.web.chats.values())


async def test_a_chain_that_the_site_forgot_begins_anew_with_everything(desk: Desk) -> None:
    await desk.say(chat(BLUE))
    asked = chat(*history(desk), WHICH)
    desk.simulator.web.chats.clear()
    turn = await desk.prepare(asked)
    assert await desk.answer(turn) == "failed: web_chat_chain_broken"
    trouble = turn.ended(FailedAnswer(Failure("")))
    assert isinstance(trouble, ChainBroken)
    assert trouble.again

    assert await desk.say(asked) == "Your favourite colour is blue."


async def test_a_new_chat_that_is_not_there_is_not_tried_for_ever(desk: Desk) -> None:
    turn = await desk.prepare(chat(BLUE))
    desk.simulator.web.chats.clear()
    await desk.answer(turn)
    trouble = turn.ended(FailedAnswer(Failure("")))
    assert isinstance(trouble, ChainBroken)
    assert not trouble.again


@pytest.mark.parametrize(
    "outcome",
    [Refused(503, {}, b""), Broken("gone", "answer"), FailedAnswer(Failure("x")), None],
    ids=["refused", "broken", "failed", "cancelled"],
)
async def test_a_turn_that_came_to_nothing_leaves_the_chain_as_it_was(
    desk: Desk, outcome: Any
) -> None:
    await desk.say(chat(BLUE))
    asked = chat(*history(desk), WHICH)
    turn = await desk.prepare(asked)
    turn.ended(outcome)
    again = await desk.prepare(asked)
    assert again.send.target == turn.send.target
    assert json.loads(again.send.body)["parent_id"] == json.loads(turn.send.body)["parent_id"]


async def test_the_end_of_a_complete_turn_takes_the_chat_from_nobody_else(desk: Desk) -> None:
    await desk.say(chat(BLUE))
    turn = await desk.prepare(chat(*history(desk), WHICH))
    answer = await desk.answer(turn)
    third = chat(*history(desk), WHICH, AssistantMessage(answer), user("say more"))
    next_turn = await desk.prepare(third)
    turn.ended(None)
    assert next_turn.send.target == turn.send.target
    assert (await desk.prepare(third)).send.target != turn.send.target


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Refused(401, {}, b"{}"), CredentialsExpired),
        (Refused(405, {"content-type": "text/html"}, b"<html>captcha"), CredentialsBlocked),
        (Refused(429, {}, b""), RateLimited),
        (Refused(504, {}, b"<html>"), Unavailable),
    ],
)
async def test_a_refusal_is_typed(desk: Desk, outcome: Refused, kind: type[Exception]) -> None:
    turn = await desk.prepare(chat(BLUE))
    trouble = turn.ended(outcome)
    assert type(trouble) is kind
    assert not trouble.again


async def test_a_lost_connection_says_nothing_about_the_credentials(desk: Desk) -> None:
    turn = await desk.prepare(chat(BLUE))
    assert turn.ended(Broken("reset", "head")) is None


async def test_without_credentials_nothing_is_sent(tmp_path: Path) -> None:
    async with Simulator(tls=False) as simulator:
        desk = Desk(tmp_path, simulator)
        with pytest.raises(CredentialsMissing, match="login --provider web-chat"):
            await desk.prepare(chat(BLUE))
        stored = desk.web.credentials.set(credentials("x", desk.now + 10))
        desk.now += 10
        desk.account = desk.account.model_copy(update={"credential_id": stored.id})
        with pytest.raises(CredentialsExpired, match="login --provider web-chat"):
            await desk.prepare(chat(BLUE))
        assert simulator.requests == []


async def test_accounts_have_credentials_of_their_own(desk: Desk) -> None:
    other = desk.web.credentials.set(credentials("0002"))
    desk.web.credentials.set(credentials("0003"))
    pinned = desk.account.model_copy(update={"credential_id": other.id})
    turn = await desk.web.prepare(chat(BLUE), pinned)
    assert dict(turn.send.headers)[b"bx-umidtoken"] == b"fake-umidtoken-0002"


async def test_nothing_secret_is_shown_of_a_turn(desk: Desk) -> None:
    turn = await desk.prepare(chat(BLUE))
    assert "fake-" not in f"{turn.send!r} {turn!r} {turn.reader!r} {vars(turn)!r}"


async def test_an_answer_is_given_although_its_chat_cannot_be_written_down(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    turn = await desk.prepare(chat(BLUE))
    for path in desk.file.parent.glob("*.sqlite*"):
        path.write_bytes(b"not a database, by now" * 99)
    with caplog.at_level(logging.WARNING):
        assert (await desk.answer(turn)).startswith("Noted")
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize(
    ("cookies", "said"), [(COOKIES, "took the web chat"), ("no-cookie", "not usable")]
)
async def test_the_environment_is_taken_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cookies: str, said: str
) -> None:
    async with Simulator(tls=False) as simulator:
        desk = Desk(tmp_path, simulator, QWEN_TOKEN=TOKEN, QWEN_COOKIES=cookies)
        with caplog.at_level(logging.INFO):
            desk.web.adopt_environment()
        assert said in caplog.text
        assert "fake-" not in caplog.text
        assert desk.web.credentials.is_valid() == (cookies == COOKIES)


async def test_a_chat_that_is_not_found_begins_anew_with_everything(desk: Desk) -> None:
    await desk.say(chat(BLUE))
    turn = await desk.prepare(chat(*history(desk), WHICH))
    trouble = turn.ended(Refused(404, {}, b'{"detail":"Not Found"}'))
    assert isinstance(trouble, ChainBroken)
    assert trouble.again
    assert await desk.say(chat(*history(desk), WHICH)) == "Your favourite colour is blue."
    assert len(desk.turns()) == 2


async def test_an_address_that_is_not_found_is_no_chat_that_was_deleted(desk: Desk) -> None:
    turn = await desk.prepare(chat(BLUE))
    trouble = turn.ended(Refused(404, {}, b'{"detail":"Not Found"}'))
    assert trouble is not None
    assert not isinstance(trouble, ChainBroken)
