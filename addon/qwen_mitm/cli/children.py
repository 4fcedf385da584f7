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

MAIN = Path(__file__).parents[2] / "main.py"
CLIENT_KEY = "demo-client-key"
ACCOUNT_KEY = "demo-account-key"
BASE_URL = "https://portal.qwen.ai/v1"

_LISTENING = re.compile(r"listening at (?:http://)?127\.0\.0\.1:(\d+)")
_LOADED = "qwen-mitm rewrites Responses requests"
_READY_TIMEOUT_S = 30.0
_CLIENT_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
# What a person may have set for other programs, and what the addon would read.
_FOREIGN = re.compile(r"(QWEN|OPENAI)_.*|.*_proxy|(SSL_CERT|NODE)_.*", re.IGNORECASE)


class DemoFailure(Exception):
    """The demo cannot go on; the message says why, with what the child printed."""


class ProxyProcess:
    """mitmdump with the addon on a free port; its log is kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._loaded = self._ended = False
        self.port = 0
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_until_it_listens(self) -> None:
        with self._changed:
            # mitmdump listens first and then ends when the addon cannot be loaded.
            self._changed.wait_for(
                lambda: self._ended or (self.port and self._loaded), _READY_TIMEOUT_S
            )
        if self._ended or not (self.port and self._loaded):
            raise DemoFailure(f"mitmdump did not start:\n{self.log}")

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                with self._changed:
                    self._lines.append(line)
                    if found := _LISTENING.search(line):
                        self.port = int(found[1])
                    self._loaded = self._loaded or _LOADED in line
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def running_proxy(simulator: SimulatorProcess, home: Path) -> Iterator[ProxyProcess]:
    """mitmdump whose one account is at the simulator; ``home`` takes its CA.

    Raises:
        DemoFailure: it did not start.
    """
    if not MAIN.exists():
        raise DemoFailure(f"{MAIN} is missing: the demo runs from a clone of the repository.")
    options = [f"confdir={home}", f"ssl_verify_upstream_trusted_ca={simulator.ca_pem}"]
    program = str(Path(sys.executable).with_name("mitmdump"))
    command = [program, "-p", "0", "--listen-host", "127.0.0.1", "-s", str(MAIN)]
    account = {"QWEN_API_KEY": ACCOUNT_KEY, "QWEN_API_BASE_URL": simulator.base_url}
    with _child(
        [*command, *(word for option in options for word in ("--set", option))],
        env=environment(home) | account,
        home=home,
        stderr=subprocess.STDOUT,
    ) as process:
        proxy = ProxyProcess(process)
        proxy.wait_until_it_listens()
        yield proxy


def client_settings(proxy: ProxyProcess, home: Path) -> dict[str, str]:
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
        "PYTHONPATH": str(MAIN.parent),
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
