from __future__ import annotations

import signal
import subprocess
import sys

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
