from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.cli.running import ASK, SHOW_ENVIRONMENT, Runner, environment_in, python


@pytest.fixture(scope="module")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mitmproxy")


@pytest.fixture
def runner(tmp_path: Path, confdir: Path, simulator: SimulatorProcess) -> Runner:
    account = {"QWEN_API_KEY": "fake-account-key", "QWEN_API_BASE_URL": simulator.base_url}
    return Runner(tmp_path, confdir, account)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_sdk_program_gets_its_answer_and_the_run_is_summed_up(runner: Runner) -> None:
    done = runner.run(*python(ASK))

    assert done.returncode == 0, done.stderr
    assert "You said “hello”" in done.stdout
    assert "fake-account-key" not in done.stdout + done.stderr
    turn, total = done.stderr.splitlines()
    assert re.match(r"qwen-mitm: qwen3-coder-plus · completed · \d+ in, \d+ out · first", turn)
    assert re.match(r"qwen-mitm: 1 turn · \d+ in \(\d+% cached\), \d+ out · first event ", total)
    assert total.endswith(" s (median) · account QWEN_API_KEY")


def test_the_first_run_of_all_finds_the_authority_that_it_makes(
    runner: Runner, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "qwen_mitm.cli", "run", *python(ASK)]

    done = subprocess.run(
        program, env=runner.environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "You said “hello”" in done.stdout
    assert (tmp_path / ".mitmproxy" / "mitmproxy-ca-cert.pem").exists()


def test_the_command_has_the_proxy_in_its_environment_and_what_the_person_set(
    runner: Runner, tmp_path: Path
) -> None:
    own = tmp_path / "own.pem"
    own.write_text(ssl.DER_cert_to_PEM_cert(b"fake corporate authority"))
    program = "import os, pathlib; print(pathlib.Path(os.environ['SSL_CERT_FILE']).read_text())"

    shown = runner.run(
        "--verbose",
        *python(f"{program}\n{SHOW_ENVIRONMENT}"),
        NO_PROXY="internal.test,portal.qwen.ai",
        REQUESTS_CA_BUNDLE=str(own),
        OPENAI_API_KEY="fake-key-of-the-person",
    )

    env = environment_in(shown.stdout)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", env["HTTPS_PROXY"])
    assert env["https_proxy"] == env["http_proxy"] == env["HTTP_PROXY"] == env["HTTPS_PROXY"]
    assert env["NO_PROXY"] == "internal.test,localhost,127.0.0.1,::1"
    assert "left out of NO_PROXY, as it leads past the proxy: portal.qwen.ai" in shown.stderr
    assert env["OPENAI_BASE_URL"] == "https://portal.qwen.ai/v1"
    assert env["OPENAI_API_KEY"] == "fake-key-of-the-person"
    assert "fake-key-of-the-person" not in shown.stderr
    assert re.search(r"ready after \d\.\d\d s", shown.stderr)
    bundle = shown.stdout
    assert own.read_text() in bundle
    assert (runner.confdir / "mitmproxy-ca-cert.pem").read_text().strip() in bundle
    assert bundle.count("BEGIN CERTIFICATE") > 50
    assert not Path(env["SSL_CERT_FILE"]).parent.exists()
    assert not is_open(int(env["HTTPS_PROXY"].rpartition(":")[2]))


def test_the_status_is_the_commands_also_when_nobody_reads_the_summary(runner: Runner) -> None:
    with runner.start(*python("print('started', flush=True); raise SystemExit(7)")) as run:
        assert run.stdout
        assert run.stderr
        run.stderr.close()
        assert run.stdout.read() == "started\n"

    assert run.returncode == 7


def test_a_signal_goes_to_the_command_and_the_proxy_answers_until_it_has_ended(
    runner: Runner,
) -> None:
    program = f"""
import signal, sys
def on_signal(number, frame):
    exec(ASK)
    sys.exit(40)
ASK = {ASK!r}
signal.signal(signal.SIGTERM, on_signal)
print("listening", flush=True)
signal.pause()
"""
    with runner.start(*python(program)) as run:
        assert run.stdout
        assert run.stdout.readline() == "listening\n"
        run.send_signal(signal.SIGTERM)
        output, errors = run.communicate(timeout=60)

    assert "You said “hello”" in output
    assert run.returncode == 40
    assert "qwen-mitm: 1 turn" in errors


def test_a_run_that_is_killed_takes_its_proxy_along(runner: Runner) -> None:
    program = f"{SHOW_ENVIRONMENT}\nimport sys; sys.stdout.flush(); sys.stdin.read()"
    command = ["-w", "flows", *python(program)]
    with runner.start(*command) as run:
        assert run.stdout
        env = environment_in(run.stdout.readline())
        port = int(env["HTTPS_PROXY"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(20)
            run.kill()
            assert connection.recv(1) == b""


def test_without_an_account_only_the_simulator_answers_and_the_ways_are_named(
    runner: Runner,
) -> None:
    runner.env.clear()

    refused = runner.run(*python("print('started')"))
    simulated = runner.run("--simulator", *python(ASK))

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "qwen-mitm login" in refused.stderr
    assert "--simulator" in refused.stderr
    assert "You said “hello”" in simulated.stdout


def test_an_option_that_does_not_exist_ends_the_run_with_its_name(runner: Runner) -> None:
    done = runner.run("--set", "qwen_typo=1", *python("print('started')"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert "unknown option qwen_typo" in done.stderr


def test_a_port_that_is_taken_is_named(runner: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = runner.run("--port", str(port), *python("print('started')"))

    assert done.returncode == 1
    assert f"Port {port} cannot be used: Address already in use." in done.stderr


KILL_THE_PROXY = """
import json, os, signal, urllib.request
proxy = urllib.request.ProxyHandler({"http": os.environ["HTTP_PROXY"]})
status = urllib.request.build_opener(proxy).open("http://qwen.mitm/status.json")
os.kill(json.load(status)["pid"], signal.SIGKILL)
"""


def test_a_proxy_that_dies_is_told_of_with_its_last_words(runner: Runner) -> None:
    done = runner.run(*python(KILL_THE_PROXY))

    assert done.returncode == 0, done.stderr
    assert "the proxy was killed by signal 9; all requests fail now" in done.stderr
    assert "qwen-mitm rewrites Responses requests" in done.stderr


def test_quiet_leaves_the_summary_and_flows_and_log_are_kept_where_they_are_wanted(
    runner: Runner, tmp_path: Path
) -> None:
    done = runner.run("--quiet", "-w", "flows", "--log", "log", *python(ASK))

    (total,) = done.stderr.splitlines()
    assert total.startswith("qwen-mitm: 1 turn")
    assert b"chat/completions" in (tmp_path / "flows").read_bytes()
    assert "qwen-mitm rewrites Responses requests" in (tmp_path / "log").read_text()
    assert "qwen3-coder-plus · completed" in (tmp_path / "log").read_text()


def test_in_reverse_mode_the_base_url_leads_to_the_proxy(runner: Runner) -> None:
    done = runner.run(
        "--mode",
        "reverse:https://portal.qwen.ai",
        *python(f"{ASK}\n{SHOW_ENVIRONMENT}"),
    )

    assert "You said “hello”" in done.stdout
    env = environment_in(done.stdout)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", env["OPENAI_BASE_URL"])
    assert "HTTPS_PROXY" not in env


def test_without_a_command_the_environment_is_printed_and_an_interrupt_is_the_end(
    runner: Runner,
) -> None:
    with runner.start() as run:
        assert run.stdout
        script = ""
        while "OPENAI_API_KEY" not in script:
            line = run.stdout.readline()
            assert line, script
            script += line
        script += f'exec "{sys.executable}" -c "$PROGRAM"'
        asked = subprocess.run(
            ["sh", "-c", script],
            env=runner.environment({"PROGRAM": ASK}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=30)

    assert "You said “hello”" in asked.stdout, asked.stderr
    assert run.returncode == 0
    assert "qwen-mitm: 1 turn" in errors


def test_a_log_that_cannot_be_written_does_not_end_the_run(runner: Runner) -> None:
    done = runner.run("--log", "/dev/full", *python(ASK))

    assert done.returncode == 0, done.stderr
    assert "You said “hello”" in done.stdout
    assert done.stderr.splitlines()[-1] == (
        "qwen-mitm: the file of --log is not whole: No space left on device"
    )


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_number_that_is_no_port_is_refused_in_a_sentence(runner: Runner, port: str) -> None:
    done = runner.run("--port", port, *python("print('started')"))

    assert done.returncode == 2
    assert "Invalid value for '--port'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_proxy_that_never_calls_back_is_given_up_at_once(runner: Runner) -> None:
    began = time.monotonic()
    done = runner.run("--mode", "upstream:no:address", *python("print('started')"))

    assert done.returncode == 1
    assert "Invalid proxy mode specification: upstream:no:address" in done.stderr
    # Less than what the threads of the run are waited for.
    assert time.monotonic() - began < 9


def test_a_home_that_cannot_be_written_is_named_without_a_traceback(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    done = runner.run("--set", f"confdir={tmp_path}/file/below", *python("print('started')"))

    assert done.returncode == 1
    assert f"{tmp_path}/file" in done.stderr
    assert "--set confdir=" in done.stderr
    assert "Traceback" not in done.stderr
