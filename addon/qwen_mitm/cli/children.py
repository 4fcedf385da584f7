"""The processes that the demo starts, each ended when its block is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qwen_mitm.simulator import SimulatorProcess

from .launch import Launch, LaunchedProxy, launched

_PACKAGES = Path(__file__).parents[2]
CLIENT_KEY = "demo-client-key"
ACCOUNT_KEY = "demo-account-key"
BASE_URL = "https://portal.qwen.ai/v1"

_CLIENT_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
# What a person may have set for other programs, and what the addon would read.
_FOREIGN = re.compile(r"(QWEN|OPENAI)_.*|.*_proxy|(SSL_CERT|NODE)_.*", re.IGNORECASE)


class DemoFailure(Exception):
    """The demo cannot go on; the message says why, with what the child printed."""


@contextmanager
def running_proxy(simulator: SimulatorProcess, home: Path, *, web: bool) -> Iterator[LaunchedProxy]:
    """A proxy whose one account is at the simulator; ``home`` takes its CA.

    Raises:
        ProxyFailure: it did not start.
    """
    account = {"QWEN_API_KEY": ACCOUNT_KEY, "QWEN_API_BASE_URL": simulator.base_url}
    launch = Launch(
        web=web,
        options=[f"confdir={home}", f"ssl_verify_upstream_trusted_ca={simulator.ca_pem}"],
        env=environment(home) | account,
        folder=home,
    )
    with launched(launch) as proxy:
        yield proxy


def client_settings(proxy: LaunchedProxy, home: Path) -> dict[str, str]:
    """All that the user's program is told, in its environment."""
    return {
        "HTTPS_PROXY": proxy.url,
        "SSL_CERT_FILE": str(home / "mitmproxy-ca-cert.pem"),
        "OPENAI_BASE_URL": BASE_URL,
        "OPENAI_API_KEY": CLIENT_KEY,
    }


def client_lines(settings: Mapping[str, str], home: Path) -> Generator[str]:
    """What the user's program prints, line by line, as it comes.

    Raises:
        DemoFailure: it ended badly or took too long.
    """
    with (
        (home / "client.log").open("w+", encoding="utf-8") as errors,
        _child(
            [sys.executable, "-m", "qwen_mitm.cli.demo_client"],
            env={**environment(home), **settings},
            home=home,
            stderr=errors.fileno(),
        ) as process,
    ):
        watchdog = threading.Timer(_CLIENT_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout
            with process.stdout as lines:
                yield from lines
            status = process.wait()
        finally:
            watchdog.cancel()
        if status:
            errors.seek(0)
            raise DemoFailure(f"the client ended with status {status}:\n{errors.read()}")


def environment(home: Path) -> dict[str, str]:
    """The person's own, without what would change the demo, and with another home."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_STATE_HOME": str(home),
        "APPDATA": str(home),
        "LOCALAPPDATA": str(home),
        "PYTHONPATH": str(_PACKAGES),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "utf-8",
    }


@contextmanager
def _child(
    command: list[str], *, env: dict[str, str], home: Path, stderr: int
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C in the terminal is for the demo, which then stops what it started.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
