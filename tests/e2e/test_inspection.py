"""What a person sees of turns, in mitmweb with a browser, and in the other front ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import AccountsOfTest, accounts_of, chats, leaks, wait_until
from tests.e2e.browser import PROGRAM, Browser
from tests.e2e.clients import Way, checked_events, final, text_of
from tests.e2e.conftest import StartProxy
from tests.e2e.web import PASSWORD, Web
from tests.translate.test_transcripts import events_of_case

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium")

BODY: dict[str, Any] = {
    "model": "qwen3-coder-plus",
    "stream": True,
    "store": False,
    "instructions": "You are a careful assistant. Answer in one sentence.",
    "max_output_tokens": 500,
    "tools": [
        {"type": "web_search"},
        {"type": "custom", "name": "apply_patch"},
        {
            "type": "namespace",
            "name": "weather",
            "tools": [
                {
                    "type": "function",
                    "name": "forecast",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                }
            ],
        },
    ],
    "input": [
        {"role": "user", "content": "What will the weather be like in Paris?"},
        {
            "type": "function_call",
            "namespace": "weather",
            "name": "forecast",
            "call_id": "call_1",
            "arguments": '{"city":"Paris","days":2}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "Sunny, then rain."},
    ],
}


#: So that it is known who answers first.
IN_TURN = {"qwen_rotation_strategy": "sequential"}


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as made:
        made.write(made.key("work"), made.key("home"))
        yield made


class Desk:
    """A mitmweb, a client of its proxy and one of its interface."""

    def __init__(self, web: Web, client: httpx.Client, watcher: httpx.Client) -> None:
        self.web = web
        self.client = client
        self.watcher = watcher

    def ask(self, **fields: Any) -> httpx.Response:
        return self.client.post("/responses", json=BODY | fields)

    def flows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.watcher.get("/flows").json()
        return found

    def shown(self, number: int, message: str, view: str = "Auto") -> str:
        flow = self.flows()[number]["id"]
        content = self.watcher.get(f"/flows/{flow}/{message}/content/{view}.json").json()
        return str(content["text"])

    def command(self, name: str, *arguments: str) -> Any:
        """What a command of mitmproxy returns."""
        done = self.watcher.post(f"/commands/{name}", json={"arguments": arguments})
        answer = done.raise_for_status().json()
        assert "value" in answer, answer
        return answer["value"]

    def export(self, number: int, folder: Path, *, blank: bool = False) -> Path:
        flow = f"@{self.flows()[number]['id']}"
        self.command("qwen.export", flow, str(folder), str(blank).lower())
        return folder

    def address(self, place: str) -> str:
        return f"{self.web.address}/?token={PASSWORD}#{place}"


@pytest.fixture
def desk(tmp_path: Path, confdir: Path, accounts: AccountsOfTest) -> Iterator[Desk]:
    with ExitStack() as stack:
        web = stack.enter_context(
            Web(tmp_path, confdir, env=accounts.env, options=accounts.options | IN_TURN)
        )
        client = stack.enter_context(Way(web).http())
        yield Desk(web, client, stack.enter_context(web.watcher()))


@needs_chromium
def test_a_browser_shows_a_streamed_turn_and_both_forms_of_it(
    desk: Desk, accounts: AccountsOfTest, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    accounts.simulator.script(["429+retry-after-60", "paced-40hz", "paced-40hz", "400-context"])
    said = text_of(final(desk.ask()))
    final(desk.ask(input="Thank you."))
    assert desk.ask(input="And now?").status_code == 400
    first, *_ = desk.flows()

    with Browser(tmp_path / "profile") as browser:

        def picture(name: str) -> None:
            if pytestconfig.getoption("--screenshots"):
                browser.screenshot(IMAGES / f"{name}.png")

        browser.open(desk.address("/flows"))
        flow_list = browser.wait_for("account home · 1 failover")
        assert "qwen3-coder-plus · 104 in (52 cached) → 11 out · first token" in flow_list
        assert "tok/s" in flow_list
        picture("flows")
        browser.open(desk.address(f"/flows/{first['id']}/request"))
        request = browser.wait_for("Chat request, to the upstream")
        assert "Responses request, from the client" in request
        assert "429" in request
        assert "max_output_tokens 500" in request
        assert "dropped: it runs at OpenAI" in request
        assert "weather.forecast" in request
        assert "weather__forecast" in request
        assert "city: Paris" in request
        picture("request")
        browser.open(desk.address(f"/flows/{first['id']}/response"))
        answer = browser.wait_for("From the upstream")
        assert said in answer
        assert "output_text.delta" in answer
        assert '"object":"chat.completion.chunk"' in answer
        assert "event: response.completed" in answer
        picture("response")
        assert leaks(browser.text()) == set()


def test_a_turn_that_runs_is_shown_as_far_as_it_is(desk: Desk, simulator: SimulatorProcess) -> None:
    body = BODY | {"model": "sim-long-40+gate-here@30"}
    with desk.client.stream("POST", "/responses", json=body) as running:
        simulator.reached("here")
        wait_until(lambda: " pieces in " in desk.flows()[0]["comment"])
        wait_until(lambda: "Answer" in desk.shown(0, "response"))
        assert "Responses request, from the client" in desk.shown(0, "request")
        simulator.release("here")
        running.read()
    wait_until(lambda: " → " in desk.flows()[0]["comment"])
    assert leaks(desk.web.log) == set()


def test_a_failed_turn_and_a_refused_request_say_why(desk: Desk, accounts: AccountsOfTest) -> None:
    accounts.simulator.script(["400-context"])
    assert desk.ask().status_code == 400
    assert desk.ask(background=True).status_code == 400
    failed, refused = desk.flows()
    assert "qwen3-coder-plus · failed · account" in failed["comment"]
    assert "request · refused · 400: 'background' is not supported." in refused["comment"]
    assert "400" in desk.shown(0, "response")
    page = desk.shown(1, "request")
    assert "nothing went upstream" in page
    assert "What will the weather be like in Paris?" in page


def test_a_history_of_a_megabyte_opens_at_once(desk: Desk) -> None:
    items = [{"role": "user", "content": f"{n} " + "word " * 400} for n in range(520)]
    final(desk.ask(input=items))
    page = desk.shown(0, "request")
    assert "messages left out here" in page
    (flow,) = desk.flows()
    url = f"/flows/{flow['id']}/request/content/Auto.json"
    assert desk.watcher.get(url).elapsed.total_seconds() < 1.0
    whole = desk.shown(0, "request", "Qwen Responses request")
    assert json.loads(whole)["input"] == items


def test_flows_of_a_file_are_shown_whole(
    tmp_path: Path, confdir: Path, accounts: AccountsOfTest, start_proxy: StartProxy
) -> None:
    file = tmp_path / "flows"
    options = {
        **accounts.options,
        **IN_TURN,
        "flow_detail": "4",
        "content_view_lines_cutoff": "5000",
    }
    proxy = start_proxy(env=accounts.env, options=options, arguments=["-w", str(file)])
    with Way(proxy).http() as client:
        said = text_of(final(client.post("/responses", json=BODY)))
    assert proxy.stop() == 0
    assert "Responses request, from the client" in proxy.log
    assert "Events, by seconds since the request came" in proxy.log
    assert leaks(proxy.log + file.read_bytes().decode("latin-1")) == set()

    options = {"rfile": str(file)}
    with Web(tmp_path, confdir, options=options) as web, web.watcher() as watcher:
        desk = Desk(web, httpx.Client(), watcher)
        wait_until(lambda: bool(desk.flows()))
        assert "account work" in desk.flows()[0]["comment"]
        answer = desk.shown(0, "response")
        assert said in answer
        assert "output_text.delta" in answer
        assert json.loads(desk.shown(0, "request", "Qwen Responses request")) == BODY
        assert "data: [DONE]" in desk.shown(0, "response", "Qwen upstream answer")
        desk.client.close()


def test_a_compaction_is_shown(desk: Desk) -> None:
    items = [*BODY["input"], {"type": "compaction_trigger"}]
    final(desk.ask(input=items))
    page = desk.shown(0, "response")
    assert "── compaction" in page
    assert "compaction_trigger" in desk.shown(0, "request")


def test_a_turn_becomes_a_test_case(desk: Desk, accounts: AccountsOfTest, tmp_path: Path) -> None:
    accounts.simulator.script(["429+retry-after-60", "reasoning"])
    personal = {"user": "lovelace", "prompt_cache_key": "session-77"}
    events = checked_events(desk.ask(**personal, store=True))
    answer = events[-1]["response"]["id"]
    checked_events(desk.ask(input="Thank you.", previous_response_id=answer))
    first, second = (desk.export(n, tmp_path / f"case{n}") for n in (0, 1))
    blank = desk.export(0, tmp_path / "blank", blank=True)
    for flow in desk.flows():
        same = ["request: the same as then", "answer: the same as then"]
        assert desk.command("qwen.retranslate", f"@{flow['id']}") == same

    assert [event["type"] for event in events_of_case(first)] == [e["type"] for e in events]
    for folder in (first, second, blank):
        expected = (folder / "expected.jsonl").read_text().splitlines()
        assert events_of_case(folder) == [json.loads(line) for line in expected]
        written = "".join(file.read_text() for file in folder.iterdir())
        for word in ("lovelace", "session-77", "work", "home", "127.0.0.1", answer):
            assert word not in written
        assert leaks(written) == set()
    assert "Paris" in (second / "request.json").read_text()
    assert "Paris" not in "".join(file.read_text() for file in blank.iterdir())


def test_the_test_suite_takes_an_exported_turn_as_it_is(
    desk: Desk, accounts: AccountsOfTest, tmp_path: Path
) -> None:
    accounts.simulator.script(["400-context"])
    desk.ask()
    desk.ask()
    desk.ask(background=True)
    transcripts = tmp_path / "transcripts"
    shutil.copytree(ROOT / "tests" / "fixtures" / "transcripts", transcripts)
    for number in range(3):
        desk.export(number, transcripts / f"exported-{number}")
    pytest_ = [sys.executable, "-m", "pytest", "tests/translate/test_transcripts.py"]
    done = subprocess.run(
        [*pytest_, "-vv", "-k", "exported or index or refusal"],
        cwd=ROOT,
        env={**os.environ, "QWEN_MITM_TRANSCRIPTS": str(transcripts)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"\[exported-\d\] PASSED", done.stdout)) == 3, done.stdout


def test_an_intercepted_request_is_edited_and_sent_so(
    desk: Desk, simulator: SimulatorProcess
) -> None:
    desk.watcher.put("/options", json={"intercept": "~m POST"}).raise_for_status()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(desk.ask)
        wait_until(lambda: any(flow["intercepted"] for flow in desk.flows()))
        (flow,) = desk.flows()
        path = f"/flows/{flow['id']}"
        chat = desk.watcher.get(f"{path}/request/content.data").json()
        assert chat["messages"][-1]["content"] == "Sunny, then rain."
        chat["messages"][-1]["content"] = "Hail and thunder."
        edited = {"request": {"content": json.dumps(chat)}}
        desk.watcher.put(path, json=edited).raise_for_status()
        desk.watcher.put("/options", json={"intercept": ""}).raise_for_status()
        desk.watcher.post(f"{path}/resume").raise_for_status()
        said = text_of(final(answer.result(10)))
    assert "Hail and thunder." in said
    (received,) = chats(simulator)
    assert received["json"] == chat
    assert desk.flows()[0]["comment"].endswith("· edited · dropped_tool; web_search")
    assert "Hail and thunder." in desk.shown(0, "request")


def test_an_intercepted_request_that_nobody_edits_is_sent_as_it_was(
    desk: Desk, simulator: SimulatorProcess
) -> None:
    final(desk.ask())
    desk.watcher.put("/options", json={"intercept": "~m POST"}).raise_for_status()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(desk.ask)
        wait_until(lambda: any(flow["intercepted"] for flow in desk.flows()))
        desk.watcher.put("/options", json={"intercept": ""}).raise_for_status()
        desk.watcher.post(f"/flows/{desk.flows()[1]['id']}/resume").raise_for_status()
        final(answer.result(10))
    first, second = chats(simulator)
    assert first["json"] == second["json"]
    assert "edited" not in desk.flows()[1]["comment"]
