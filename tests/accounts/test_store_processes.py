import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.store import AccountStore

WORKER = Path(__file__).with_name("store_worker.py")
ADDON = Path(__file__).parents[2] / "addon"

only_posix = pytest.mark.skipif(os.name == "nt", reason="needs fork and resource limits")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.json"
    accounts = tuple(
        Account(name=f"n{i}", refresh_token=SecretStr(f"fake-{i}"), access_token=SecretStr("fake"))
        for i in range(5)
    )
    AccountStore(path).update(lambda _: AccountFile(version=1, accounts=accounts))
    return path


def start(task: str, path: Path, *numbers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), task, str(path), *map(str, numbers)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ADDON)},
    )


def result(process: subprocess.Popen[str]) -> Any:
    output, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    return json.loads(output)


def test_eight_processes_that_change_the_file_at_once_lose_nothing(path: Path) -> None:
    processes = [start("count", path, 50) for _ in range(8)]
    for process in processes:
        result(process)

    accounts = AccountStore(path).accounts()

    assert [a.usage.requests for a in accounts if a.usage] == [8 * 50] * 5
    assert not (path.parent / "accounts.json.lock").exists()


@only_posix
def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_file(path: Path) -> None:
    outcome = result(start("kill", path, 200, 20))

    assert outcome["rounds"] == 200
    assert outcome["rounds_that_wrote"] > 20
    assert outcome["left"] == ["accounts.json", "accounts.json.lock-qwen-mitm"]


@only_posix
def test_a_disk_that_is_full_is_a_clear_error_and_loses_nothing(path: Path) -> None:
    before = path.read_bytes()

    outcome = result(start("fill", path, 1000))

    assert "cannot be written: File too large" in outcome["error"]
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "accounts.json",
        "accounts.json.lock-qwen-mitm",
    ]
