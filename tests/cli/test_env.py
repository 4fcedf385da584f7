from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from qwen_mitm.cli.launch import Launch, launched
from qwen_mitm.cli.shells import Shell, assignments

from .terminal import Terminal

ODD = {"NAME": "a 'quoted' \\ $value"}


def test_a_running_proxy_can_be_used_from_a_shell_that_evaluates_what_is_printed(
    terminal: Terminal, tmp_path: Path
) -> None:
    launch = Launch(options=[f"confdir={tmp_path}"], env=terminal.process_env())
    with launched(launch) as proxy:
        shown = terminal.run("env", "--port", str(proxy.ready.port))
        value = subprocess.run(
            ["sh", "-c", f'{shown.stdout}\nprintf "%s|%s" "$HTTPS_PROXY" "$SSL_CERT_FILE"'],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    address, _, bundle = value.partition("|")
    assert address == proxy.url
    ca = (tmp_path / "mitmproxy-ca-cert.pem").read_text().strip()
    assert ca in Path(bundle).read_text()


def test_where_no_proxy_answers_nothing_is_printed(terminal: Terminal) -> None:
    done = terminal.run("env", "--port", "9")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert "No proxy of qwen-mitm answers at port 9." in done.stderr


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        (Shell.sh, "export NAME='a '\"'\"'quoted'\"'\"' \\ $value'"),
        (Shell.fish, r"set -gx NAME 'a \'quoted\' \\ $value'"),
        (Shell.powershell, r"$env:NAME = 'a ''quoted'' \ $value'"),
    ],
)
def test_every_shell_gets_the_value_as_it_is(shell: Shell, line: str) -> None:
    assert assignments(shell, ODD) == line
