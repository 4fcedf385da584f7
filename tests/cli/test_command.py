"""The person's command, below a process of its own that passes signals on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.running import ROOT

RUN = """
import os, sys
from qwen_mitm.cli.command import CommandNotStarted, run_command
try:
    sys.exit(run_command(sys.argv[1:], dict(os.environ)))
except CommandNotStarted as failure:
    print(failure)
    sys.exit(failure.status)
"""
LISTEN = """
import signal, sys
def on_signal(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number != signal.SIGWINCH:
        sys.exit(40)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGWINCH"):
    signal.signal(getattr(signal, name), on_signal)
print("listening", flush=True)
while True:
    signal.pause()
"""
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "addon")}


def words(*command: str) -> list[str]:
    return [sys.executable, "-c", RUN, *command]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*command), env=ENV, capture_output=True, text=True, timeout=30, check=False
    )


def started(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=ENV, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_the_status_is_the_commands(program: str, status: int) -> None:
    assert run(sys.executable, "-c", program).returncode == status


def test_a_command_that_cannot_be_started_has_the_shells_status(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")

    missing, useless = run("no-such-command"), run(str(plain))

    assert (missing.returncode, useless.returncode) == (127, 126)
    assert "There is no command 'no-such-command'." in missing.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_sent_reaches_the_command_which_decides(number: signal.Signals) -> None:
    with started(words(sys.executable, "-c", LISTEN)) as process:
        assert process.stdout
        assert process.stdout.readline() == "listening\n"
        process.send_signal(signal.SIGWINCH)
        assert process.stdout.readline() == "SIGWINCH\n"
        process.send_signal(number)
        assert process.stdout.read() == f"{number.name}\n"

    assert process.returncode == 40


def test_a_signal_that_is_ignored_stays_so() -> None:
    program = f"import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); {RUN}"
    show = "import signal; print(repr(signal.getsignal(signal.SIGHUP)))"

    done = subprocess.run(
        [sys.executable, "-c", program.replace("; \n", "\n"), sys.executable, "-c", show],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "SIG_IGN" in done.stdout, done.stderr


def test_ctrl_c_in_the_terminal_reaches_the_command_once() -> None:
    counting = """
import signal
count = 0
def on_signal(number, frame):
    global count
    count += 1
    print("interrupted", flush=True)
signal.signal(signal.SIGINT, on_signal)
print("listening", flush=True)
input()
print(f"{count} in all", flush=True)
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, words(sys.executable, "-c", counting), ENV)
    with os.fdopen(terminal, "rb+", buffering=0) as keyboard:
        seen = b""

        def wait_for(text: bytes) -> None:
            nonlocal seen
            while text not in seen:
                seen += keyboard.read(1024)

        wait_for(b"listening")
        keyboard.write(b"\x03")
        wait_for(b"interrupted")
        keyboard.write(b"\n")
        wait_for(b"in all")
        _, status = os.waitpid(pid, 0)

    assert b"1 in all" in seen
    assert os.waitstatus_to_exitcode(status) == 0
