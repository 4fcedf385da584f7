"""OpenCode and Codex at work, against the simulator, through a real mitmdump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import AccountsOfTest, accounts_of, chats, leaks, limited, log_of, served
from tests.e2e.clients import header
from tests.e2e.clients.conftest import SCRIPTS, MakeAgent
from tests.e2e.clients.programs import Agent
from tests.e2e.conftest import FAKE_KEY, StartProxy, trust
from tests.e2e.proxy import Proxy

ODD = "grüße \"quoted\" and 'so'\n\ttabs \\ and ${no} `expansion`\n日本語 👩‍👩‍👧 \u2028 end\n"


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


def messages_of(simulator: SimulatorProcess) -> list[list[dict[str, Any]]]:
    """The messages of each request that offered tools: a title has none."""
    bodies = [request["json"] for request in chats(simulator)]
    return [body["messages"] for body in bodies if body.get("tools")]


def results(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


def test_an_answer_is_shown_whole_and_nobody_else_is_asked(
    agent: Agent, simulator: SimulatorProcess, proxy: Proxy
) -> None:
    before = proxy.log

    done = agent.ask("hello there")

    assert done.status == 0, done.shown
    assert (
        "You said “hello there”. 你好 — this is the Qwen simulator, and it heard you. 👋"
        in done.out
    )
    (received,) = chats(simulator)
    assert header(received, "authorization") == f"Bearer {FAKE_KEY}"
    # OpenCode looks for a package of its own.
    others = 1 if agent.name == "opencode" else 0
    assert proxy.log.removeprefix(before).count("turned away") <= others


def test_a_turn_writes_the_file_that_the_model_wants(
    agent: Agent, work: Path, simulator: SimulatorProcess
) -> None:
    wanted = work / "notes with ünicode.txt"

    done = agent.ask(f"call:{agent.write(wanted, ODD)}")

    assert done.status == 0, done.shown
    assert wanted.read_text("utf-8") == ODD
    assert "The tools said" in done.out
    assert len(messages_of(simulator)) == 2


def test_the_second_step_of_a_loop_works_on_the_result_of_the_first(
    agent: Agent, work: Path, simulator: SimulatorProcess
) -> None:
    file = work / "a.txt"

    done = agent.ask(
        f"call:{agent.write(file, 'first words\n')} then:{agent.command(f'cat {file}')}"
    )

    assert done.status == 0, done.shown
    assert "first words" in done.out
    last = messages_of(simulator)[-1]
    assert [m["role"] for m in last[-4:]] == ["assistant", "tool", "assistant", "tool"]
    assert "first words" in results(last)[-1]


def test_parallel_calls_are_all_run_and_answered_together(
    agent: Agent, simulator: SimulatorProcess
) -> None:
    done = agent.ask(f"call:{agent.command('echo one')} call:{agent.command('echo two')}")

    assert done.status == 0, done.shown
    last = messages_of(simulator)[-1]
    assert [message["role"] for message in last[-3:]] == ["assistant", "tool", "tool"]
    assert [call["id"] for call in last[-3]["tool_calls"]] == [m["tool_call_id"] for m in last[-2:]]
    assert ["one" in results(last)[0], "two" in results(last)[1]] == [True, True]


def test_thoughts_are_shown_and_come_back_with_the_next_request(
    agent: Agent, simulator: SimulatorProcess
) -> None:
    thought = "The user wants an answer. I look at the words and keep it short."

    done = agent.ask(f"call:{agent.command('echo one')}", model="qwen3.7-plus", thinking=True)

    assert done.status == 0, done.shown
    assert thought in done.shown
    first, second = (request["json"] for request in chats(simulator))
    assert first["reasoning_effort"] == "high"
    assert second["messages"][-2]["reasoning_content"] == thought
    assert second["messages"][-2]["tool_calls"]


def test_two_thousand_chunks_arrive_whole(agent: Agent, simulator: SimulatorProcess) -> None:
    done = agent.ask("hello there", model="sim-long-2000")

    assert done.status == 0, done.shown
    assert " ".join(f"word{n}" for n in range(2000)) in done.out


def test_characters_of_several_bytes_survive_being_cut(
    agent: Agent, simulator: SimulatorProcess
) -> None:
    said = "naïve 你好 👩‍👩‍👧 \U0001f9d1‍\U0001f4bb ẞ"

    done = agent.ask(said, model="sim-split-utf8")

    assert done.status == 0, done.shown
    assert f"You said “{said}”. 你好" in done.out


def test_a_limited_account_is_replaced_without_the_agent_seeing_it(
    agent_for: MakeAgent, start_proxy: StartProxy, accounts: AccountsOfTest, work: Path
) -> None:
    accounts.write(accounts.key("spent"), accounts.key("fresh"))
    simulator = accounts.simulator
    refused = {"behaviour": "429+retry-after-60", "bearer": "fake-key-spent", "times": None}
    simulator.script([refused])
    proxy = start_proxy(env=accounts.env, options=accounts.options, scripts=SCRIPTS)
    agent = agent_for(proxy)
    file = work / "a.txt"

    done = agent.ask(f"call:{agent.write(file, ODD)}")

    assert done.status == 0, done.shown
    assert file.read_text("utf-8") == ODD
    assert set(served(simulator)) == {"fresh"}
    assert [r["account"] for r in chats(simulator) if r["status"] == 429] == ["spent"]
    assert leaks(done.shown) == set()
    assert leaks(log_of(proxy)) == set()


def test_a_refusal_of_the_upstream_is_shown_in_its_words(
    agent: Agent, simulator: SimulatorProcess
) -> None:
    done = agent.ask("hello there", model="sim-400-inspection")

    assert "inappropriate content" in done.shown
    assert len(chats(simulator)) == 1


def test_who_has_no_account_is_told_what_to_do(
    agent_for: MakeAgent, start_proxy: StartProxy, simulator: SimulatorProcess
) -> None:
    proxy = start_proxy(options=trust(simulator), scripts=SCRIPTS)

    done = agent_for(proxy).ask("hello there")

    assert "qwen-mitm login" in done.shown
    assert chats(simulator) == []


def test_a_quota_that_is_used_up_ends_the_turn_at_once_and_says_so(
    agent_for: MakeAgent, start_proxy: StartProxy, accounts: AccountsOfTest
) -> None:
    spent = {"*": limited(2 * 3600, "spent")}
    accounts.write(accounts.key("a", cooldowns=spent), accounts.key("b", cooldowns=spent))
    proxy = start_proxy(env=accounts.env, options=accounts.options, scripts=SCRIPTS)

    done = agent_for(proxy).ask("hello there")

    assert "quota used up" in done.shown
    assert chats(accounts.simulator) == []
