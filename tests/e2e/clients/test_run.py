"""`qwen-mitm run` with OpenCode and Codex: an agent turn, and no file of the person's changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.cli.running import Runner
from tests.e2e.accounts import chats

TEXT = "written by the model\n"


@pytest.fixture(scope="module")
def plain() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("--plain") as simulator:
        yield simulator


@pytest.fixture
def runner(work: Path, confdir: Path, client_home: Path, plain: SimulatorProcess) -> Runner:
    plain.reset()
    env = {
        "QWEN_API_KEY": "fake-account-key",
        "QWEN_API_BASE_URL": plain.base_url,
        "HOME": str(client_home),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }
    return Runner(work, confdir, env)


def opencode(clients: Path) -> list[str]:
    """It reads the prompt from standard input; as an argument it would be quoted."""
    program = clients / "node_modules" / ".bin" / "opencode"
    return ["--", str(program), "run", "--title", "a test"]


def files_in(home: Path) -> set[Path]:
    """The configuration of the two."""
    names = ("opencode.json", "opencode.jsonc", "config.toml")
    return {path for name in names for path in home.rglob(name)}


def test_opencode_writes_a_file_with_the_models_provider_of_the_run(
    runner: Runner, clients: Path, client_home: Path, work: Path, plain: SimulatorProcess
) -> None:
    before = files_in(client_home)
    wanted = work / "notes.txt"
    arguments = json.dumps({"filePath": str(wanted), "content": TEXT}, separators=(",", ":"))

    done = runner.run(
        "--model", "qwen3-coder-plus", *opencode(clients), stdin=f"call:write{arguments}"
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert wanted.read_text() == TEXT
    assert {request["json"]["model"] for request in chats(plain)} == {"qwen3-coder-plus"}
    assert "qwen-mitm: 2 turns" in done.stderr
    assert files_in(client_home) == before


def test_opencode_keeps_a_provider_of_the_persons_own(
    runner: Runner, clients: Path, work: Path, plain: SimulatorProcess
) -> None:
    own = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            "qwen": {
                "npm": "@ai-sdk/openai",
                "options": {"baseURL": "https://portal.qwen.ai/v1", "apiKey": "mine"},
                "models": {"model-of-mine": {"tool_call": True}},
            }
        },
        "model": "qwen/model-of-mine",
        "small_model": "qwen/model-of-mine",
    }
    file = work / "opencode.json"
    file.write_text(json.dumps(own))

    done = runner.run(*opencode(clients), stdin="hello there")

    assert done.returncode == 0, done.stdout + done.stderr
    assert {request["json"]["model"] for request in chats(plain)} == {"model-of-mine"}
    assert json.loads(file.read_text()) == own


def test_codex_writes_a_file_and_knows_the_model(
    runner: Runner, clients: Path, client_home: Path, work: Path, plain: SimulatorProcess
) -> None:
    before = files_in(client_home)
    wanted = work / "notes.txt"
    arguments = json.dumps({"cmd": f"echo written by the model > '{wanted}'"})
    program = clients / "node_modules" / ".bin" / "codex"
    headless = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]

    done = runner.run(
        "--model",
        "qwen3-coder-plus",
        "--",
        str(program),
        "exec",
        *headless,
        f"call:exec_command{arguments}",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert wanted.read_text() == TEXT
    assert "metadata" not in done.stderr
    assert "unrecognized configuration" not in done.stderr
    assert "qwen-mitm: 2 turns" in done.stderr
    first, _ = (request["json"] for request in chats(plain))
    assert "You are Codex, a coding agent" in json.dumps(first["messages"][0])
    assert files_in(client_home) == before
