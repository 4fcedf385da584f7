"""Real clients work with an account whose host speaks Responses itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import AccountsOfTest, accounts_of
from tests.e2e.clients.conftest import SCRIPTS
from tests.e2e.clients.programs import BASE_URL, Codex, OpenCode, Sdk, Workshop
from tests.e2e.clients.test_openai_node import TEXT, THOUGHT
from tests.e2e.conftest import StartProxy
from tests.responses_checker import check_request

NATIVE = {"provider": "generic", "wire": "responses"}
MODEL = "qwen3.7-plus"
NOTE = 'a "note" \\ with ünicode 🎉\nand lines'


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        opened.write(opened.key("own", **NATIVE))
        yield opened


@pytest.fixture
def workshop(
    clients: Path, client_home: Path, work: Path, start_proxy: StartProxy, accounts: AccountsOfTest
) -> Workshop:
    proxy = start_proxy(env=accounts.env, options=accounts.options, scripts=SCRIPTS)
    return Workshop(clients, client_home, work, proxy)


def inputs(simulator: SimulatorProcess) -> list[list[dict[str, Any]]]:
    """The items of each request; all of them went to the host's own endpoint."""
    asked = simulator.requests()
    assert {request["path"] for request in asked} == {"/v1/responses"}
    for request in asked:
        check_request(request["json"])
    return [request["json"]["input"] for request in asked]


def kinds(items: list[dict[str, Any]]) -> list[str]:
    return [item.get("role", item["type"]) for item in items]


def test_codex_applies_a_freeform_patch(
    workshop: Workshop, work: Path, simulator: SimulatorProcess
) -> None:
    patch = '*** Begin Patch\n*** Add File: new.txt\n+grüße 🎉 "q" \\n\n*** End Patch'

    done = Codex(workshop).ask(f"call:apply_patch{json.dumps({'input': patch})}", model="gpt-5.5")

    assert done.status == 0, done.shown
    assert (work / "new.txt").read_text("utf-8") == 'grüße 🎉 "q" \\n\n'
    assert kinds(inputs(simulator)[-1])[-2:] == ["function_call", "function_call_output"]


def test_codex_compacts_and_goes_on(workshop: Workshop, simulator: SimulatorProcess) -> None:
    codex = Codex(workshop)
    settings = ["model_provider=openai", f"openai_base_url={BASE_URL}"]

    done = codex.ask(
        f"call:{codex.command('echo one')}",
        settings=[*settings, "model_auto_compact_token_limit=20"],
    )

    assert done.status == 0, done.shown
    _, compacting, after = inputs(simulator)
    assert kinds(compacting)[-3:] == ["function_call", "function_call_output", "user"]
    assert after[-1]["content"][0]["text"].startswith("Summary of the conversation so far.")


def test_opencode_runs_a_tool_and_shows_thoughts(
    workshop: Workshop, simulator: SimulatorProcess
) -> None:
    agent = OpenCode(workshop)

    done = agent.ask(f"call:{agent.command('echo one')}", model=MODEL, thinking=True)

    assert done.status == 0, done.shown
    assert THOUGHT in done.shown
    assert kinds(inputs(simulator)[-1])[-3:] == [
        "reasoning",
        "function_call",
        "function_call_output",
    ]


@pytest.mark.parametrize("way", ["generate", "stream"])
def test_the_ai_sdk_runs_a_loop_of_calls_of_all_kinds(
    workshop: Workshop, node_programs: Path, simulator: SimulatorProcess, way: str
) -> None:
    program = node_programs / "ai_sdk.mjs"
    command: list[str | Path] = ["node", "--import", program.with_name("proxy.mjs"), program]
    marker = json.dumps({"input": NOTE})
    prompt = f'call:get_weather{{"city": "Köln"}} call:note{marker} then:get_time{{"tz": "CET"}}'
    options = {"store": False, "include": ["reasoning.encrypted_content"]}
    thinking = {**options, "reasoningEffort": "high", "forceReasoning": True}

    with Sdk(workshop, command, workshop.work / "ai_sdk.log") as sdk:
        answer = sdk(way, prompt=prompt, model=MODEL, useTools=True, options=thinking)
        refused = sdk(way, prompt="hello there", model="sim-429-quota")
        broken = sdk("stream", prompt="hello there", model="sim-error-after-text-6")

    assert answer["calls"] == [
        ["get_weather", {"city": "Köln"}],
        ["note", NOTE],
        ["get_time", {"tz": "CET"}],
    ]
    assert answer["reasoningText"] == THOUGHT
    assert (refused["error"], refused["code"]) == ("AI_APICallError", "insufficient_quota")
    assert broken["error"].startswith("AI_")
    thoughts = [item for item in inputs(simulator)[2] if item["type"] == "reasoning"]
    assert [thought["summary"][0]["text"] for thought in thoughts] == [THOUGHT, THOUGHT]


@pytest.mark.parametrize("way", ["run", "streamed"])
def test_the_agents_sdk_runs_functions_custom_tools_and_continues(
    workshop: Workshop, simulator: SimulatorProcess, way: str
) -> None:
    python = workshop.installed / "python" / "bin" / "python"
    program = Path(__file__).with_name("agents_sdk.py")
    note = f"note{json.dumps({'input': NOTE})}"
    said = f'call:get_weather{{"city": "Köln"}} call:{note} then:get_time{{"tz": "CET"}}'

    with Sdk(workshop, [python, program], workshop.work / "agents_sdk.log") as sdk:
        plain = sdk(way, said="hello there", model=MODEL)
        answer = sdk(
            way,
            said=said,
            model=MODEL,
            tools=["functions", "custom"],
            effort="high",
            continues=True,
        )
        refused = sdk(way, said="hello there", model="sim-400-context")

    assert plain["output"] == TEXT
    assert answer["results"] == ["rain in Köln", f"noted {NOTE}", "noon in CET"]
    assert (refused["error"], refused["code"]) == ("BadRequestError", "context_length_exceeded")
    assert all("previous_response_id" not in request["json"] for request in simulator.requests())
    assert kinds(inputs(simulator)[3]).count("function_call_output") == 3
