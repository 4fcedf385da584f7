from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Runner

INTERRUPTED = """
import os, signal, sys
class Impatient:
    def find_spec(self, name, path, target=None):
        if name == "qwen_mitm.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Impatient())
{before}
from qwen_mitm.entry import main
sys.argv = ["qwen-mitm", "options"]
main()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_word() -> None:
    done = run(INTERRUPTED.format(before=""))

    assert done.returncode == -signal.SIGINT
    assert done.stdout + done.stderr == ""


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    done = run(INTERRUPTED.format(before="signal.signal(signal.SIGINT, signal.SIG_IGN)"))

    assert done.returncode == 0, done.stderr
    assert "qwen_hosts" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_runs_also_where_the_standard_streams_are_closed(closed: str) -> None:
    program = "from qwen_mitm.entry import main; main()"
    command = f'"$0" -c "$1" config codex {closed}; echo "status $?"'

    done = subprocess.run(
        ["sh", "-c", command, sys.executable, program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.endswith("status 0\n"), done.stderr
    assert done.stderr == ""
    assert ("model_provider" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_what_it_starts_has_standard_streams_too(tmp_path: Path) -> None:
    program = "from qwen_mitm.entry import main; main()"
    command = '"$0" -c "$1" run --simulator -- sh -c "echo hello && echo $? > status" >&-'

    subprocess.run(
        ["sh", "-c", command, sys.executable, program],
        env=Runner(tmp_path, tmp_path).environment(),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert (tmp_path / "status").read_text() == "0\n"
