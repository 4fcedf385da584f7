from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest

from qwen_mitm.cli import workers as module
from qwen_mitm.cli.launch import Launch
from qwen_mitm.cli.speech import Complaint
from qwen_mitm.cli.workers import MOST_WORKERS, Workers, cores, launched_workers, workers_of
from qwen_mitm.reports import Remark, Report
from qwen_mitm.shared_port import kept_port
from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.status import Status
from tests.cli.running import ASK, Runner, python
from tests.e2e.accounts import wait_until
from tests.event_checker import check_events, events_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows shares no ports")

REVERSE = ("--mode", "reverse:https://portal.qwen.ai")
MODEL = "qwen3-coder-plus"


@pytest.fixture(scope="module")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mitmproxy")


@pytest.fixture
def runner(tmp_path: Path, confdir: Path, simulator: SimulatorProcess) -> Runner:
    account = {"QWEN_API_KEY": "fake-account-key", "QWEN_API_BASE_URL": simulator.base_url}
    return Runner(tmp_path, confdir, account)


@dataclass
class Running:
    """A run in reverse mode, where one connection can ask who serves it and then ask for more."""

    url: str
    process: subprocess.Popen[str]
    stack: ExitStack

    def client(self) -> tuple[httpx.Client, Status]:
        """With one connection, and who serves it."""
        limits = httpx.Limits(max_connections=1)
        http = httpx.Client(base_url=self.url, trust_env=False, limits=limits, timeout=30)
        self.stack.enter_context(http)
        return http, status_of(http)

    def clients(self, count: int = 2) -> list[httpx.Client]:
        """One of each worker."""
        found: dict[int, httpx.Client] = {}
        while len(found) < count:
            http, status = self.client()
            assert status.workers == count
            found.setdefault(status.worker, http)
        return [found[number] for number in sorted(found)]


@contextmanager
def running(runner: Runner, *words: str) -> Iterator[Running]:
    with ExitStack() as stack, runner.start(*REVERSE, "--workers", "2", *words) as process:
        assert process.stdout
        line = ""
        while "OPENAI_BASE_URL" not in line:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found
        try:
            yield Running(found[0], process, stack)
        finally:
            process.send_signal(signal.SIGINT)


def status_of(http: httpx.Client) -> Status:
    return Status.model_validate_json(http.get("/qwen.mitm/status.json").content)


def ask(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    """The response of a streamed request."""
    body = {"model": MODEL, "input": "hello", "stream": True, **fields}
    events = events_of(http.post("/v1/responses", json=body).content)
    check_events(events)
    assert events[-1]["type"] == "response.completed"
    response: dict[str, Any] = events[-1]["response"]
    return response


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_workers_answer_at_one_port_and_are_summed_up_as_one(runner: Runner) -> None:
    with running(runner, "--keep-flows", "flows") as run:
        clients = run.clients()
        states = [status_of(http) for http in clients]
        for http in clients:
            ask(http)
        run.process.send_signal(signal.SIGINT)
        _, errors = run.process.communicate(timeout=30)

    assert [status.worker for status in states] == [1, 2]
    assert len({status.pid for status in states}) == 2
    *turns, total = [line for line in errors.splitlines() if "qwen-mitm: " in line][-3:]
    assert all(f"{MODEL} · completed" in line for line in turns)
    assert total.startswith("qwen-mitm: 2 turns")
    assert run.process.returncode == 0
    assert not any(is_alive(status.pid) for status in states)
    for number in (1, 2):
        assert b"chat/completions" in (runner.home / f"flows.{number}").read_bytes()


def test_a_response_of_one_worker_is_built_upon_at_the_other(
    runner: Runner, simulator: SimulatorProcess
) -> None:
    with running(runner) as run:
        one, other = run.clients()
        first = ask(one, input="remember the word heron")
        second = ask(other, input="which word?", previous_response_id=first["id"])
        fetched = one.get(f"/v1/responses/{second['id']}").json()

    assert second["previous_response_id"] == first["id"]
    assert fetched["id"] == second["id"]
    said = [message["content"] for message in simulator.requests()[-1]["json"]["messages"]]
    assert said[0] == "remember the word heron"
    assert said[-1] == "which word?"


def write_accounts(path: Path, simulator: SimulatorProcess, names: Sequence[str]) -> None:
    bearers = {f"fake-key-{name}": name for name in names}
    simulator.accounts(bearers)
    accounts = [
        {"name": name, "apiKey": key, "baseUrl": simulator.base_url}
        for key, name in bearers.items()
    ]
    path.write_text(json.dumps({"version": 1, "accounts": accounts, "activeIndex": 0}))
    path.chmod(0o600)


def test_workers_agree_on_the_account_of_a_conversation_and_learn_of_its_limit_from_each_other(
    runner: Runner, simulator: SimulatorProcess
) -> None:
    runner.env.clear()
    accounts = runner.home / "accounts.json"
    write_accounts(accounts, simulator, ["a", "b"])
    words = ["--accounts-file", str(accounts), "--set", "qwen_rotation_strategy=sticky"]
    with running(runner, *words) as run:
        one, other = run.clients()
        for number in range(8):
            for http in (one, other):
                ask(http, prompt_cache_key=f"conversation-{number}")
        served = [request["account"] for request in simulator.requests()]
        limited = served[0]
        simulator.script(
            [{"behaviour": "429+retry-after-60", "bearer": f"fake-key-{limited}", "times": None}]
        )
        ask(one, prompt_cache_key="conversation-0")
        wait_until(lambda: "cooldown" in accounts.read_text())
        wait_until(lambda: time.time() - accounts.stat().st_mtime > 1)
        ask(other, prompt_cache_key="conversation-0")

    assert served[::2] == served[1::2]
    (free,) = {"a", "b"} - {limited}
    asked = [(request["account"], request["status"]) for request in simulator.requests()]
    assert asked[16:] == [(limited, 429), (free, 200), (free, 200)]


KILL_ONE = f"""
import json, os, signal, time, urllib.request
def status():
    proxy = urllib.request.ProxyHandler({{"http": os.environ["HTTP_PROXY"]}})
    found = urllib.request.build_opener(proxy).open("http://qwen.mitm/status.json")
    return json.load(found)
dead = status()
os.kill(dead["pid"], signal.SIGKILL)
seen = []
while not seen or seen[-1]["worker"] != dead["worker"] or seen[-1]["pid"] == dead["pid"]:
    try:
        seen.append(status())
    except OSError:
        # It took the connection and died.
        pass
{ASK}
raise SystemExit(7)
"""


def test_one_that_dies_is_told_of_and_replaced_and_the_run_goes_on(runner: Runner) -> None:
    done = runner.run("--workers", "2", *python(KILL_ONE))

    assert done.returncode == 7, done.stderr
    assert "You said “hello”" in done.stdout
    dead = re.search(r"worker (\d) of 2 \(process (\d+)\) was killed by signal 9;", done.stderr)
    assert dead
    assert f"worker {dead[1]} runs again (process " in done.stderr
    assert "qwen-mitm: 1 turn" in done.stderr


def test_what_is_wrong_with_the_installation_is_said_once(
    runner: Runner, simulator: SimulatorProcess
) -> None:
    accounts = runner.home / "accounts.json"
    write_accounts(accounts, simulator, ["plan"])
    accounts.chmod(0o644)
    runner.env.clear()

    done = runner.run("--workers", "2", "--accounts-file", str(accounts), *python(ASK))
    failed = runner.run("--workers", "2", "--set", "qwen_typo=1", "--simulator", "--", "true")

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("others on this machine can read") == 1
    assert failed.returncode == 1
    said = [line for line in failed.stderr.splitlines() if line.startswith("qwen-mitm: ")]
    assert said == ["qwen-mitm: unknown option qwen_typo. qwen-mitm options lists them all."]
    assert failed.stderr.count("The proxy did not start") == 1


def test_the_first_run_of_all_makes_one_authority_for_all(runner: Runner, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "qwen_mitm.cli", "run", "--workers", "2"]
    program = f"{ASK}\n" * 6

    done = subprocess.run(
        [*words, *python(program)],
        env=runner.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("You said “hello”") == 6


def launch(runner: Runner, reports: SimpleQueue[Report], **more: Any) -> Launch:
    return Launch(
        mode="reverse:https://portal.qwen.ai",
        options=[f"confdir={runner.confdir}"],
        env=runner.environment(),
        folder=runner.home,
        on_report=reports.put,
        **more,
    )


def pids_at(url: str, count: int) -> Mapping[int, int]:
    """By number, when so many have answered."""
    found: dict[int, int] = {}
    while len(found) < count:
        with httpx.Client(base_url=url, trust_env=False) as http:
            status = status_of(http)
            found[status.worker] = status.pid
    return found


def remark_with(reports: SimpleQueue[Report], words: str) -> str:
    while True:
        report = reports.get(timeout=60)
        if isinstance(report, Remark) and words in report.text:
            return report.text


def test_one_that_cannot_be_replaced_is_left_alone_and_the_others_serve_until_none_is_left(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REPLACEMENTS", 1)
    reports: SimpleQueue[Report] = SimpleQueue()
    ends: list[int] = []
    wanted = launch(runner, reports, on_end=lambda status, _: ends.append(status))
    with launched_workers(wanted, 2) as workers:
        pids = pids_at(workers.url, 2)
        # Those that start from now on refuse it.
        settings = runner.home / ".opencode" / "qwen.json"
        settings.parent.mkdir()
        settings.write_text('{"rotation_strategy": "no-such-strategy"}')

        os.kill(pids[1], signal.SIGKILL)
        remark_with(reports, "worker 1 ends again and again; it is not started any more")
        left = {pids_at(workers.url, 1)[2] for _ in range(5)}
        os.kill(pids[2], signal.SIGKILL)
        status = workers.wait()

    assert left == {pids[2]}
    assert status == 1
    assert ends == [1]


def test_where_sockets_do_not_share_ports_all_take_connections_from_one(runner: Runner) -> None:
    reports: SimpleQueue[Report] = SimpleQueue()
    with kept_port(0, own_sockets=False) as port:
        workers = Workers(launch(runner, reports), 2, port, None)
        try:
            workers.start()
            one = pids_at(workers.url, 1)
            (number, pid), *_ = one.items()
            os.kill(pid, signal.SIGSTOP)
            try:
                # A stopped process takes none, so the other one must.
                other = pids_at(workers.url, 1)
            finally:
                os.kill(pid, signal.SIGCONT)
        finally:
            workers.stop()

    assert number not in other


@pytest.mark.parametrize(
    ("wanted", "web", "count"),
    [("1", False, 1), ("1", True, 1), ("4", False, 4), ("auto", True, 1)],
)
def test_so_many_are_started_as_the_person_says(wanted: str, web: bool, count: int) -> None:
    assert workers_of(wanted, web=web) == count


def test_auto_is_one_for_each_core_that_may_be_used() -> None:
    assert workers_of("auto", web=False) == cores()
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "", f"{MOST_WORKERS + 1}"])
def test_a_number_that_cannot_be_is_refused(wanted: str) -> None:
    with pytest.raises(Complaint, match="from 1 to"):
        workers_of(wanted, web=False)


def test_mitmweb_shows_one_process_and_so_goes_with_one(runner: Runner) -> None:
    done = runner.run("--workers", "2", "--web", *python("print('started')"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert "--web goes with 1 worker" in done.stderr
