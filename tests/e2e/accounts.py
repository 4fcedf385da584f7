"""Account files for real proxies, and whom the simulator answered."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from qwen_mitm.accounts.files import parse
from qwen_mitm.accounts.model import Account
from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.conftest import trust
from tests.e2e.proxy import Proxy
from tests.event_checker import Event

type Entry = dict[str, Any]

HOUR_MS = 3_600_000
#: Every credential that these tests and the simulator make.
SECRET = re.compile(r"sim-(?:access|refresh)-[0-9a-f]{8,}|fake-key-[\w-]+|fake-client-key")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class AccountsOfTest:
    """The account file below a proxy's home, and the same accounts at the simulator."""

    def __init__(self, home: Path, simulator: SimulatorProcess) -> None:
        self.path = home / ".config" / "opencode" / "qwen-auth-accounts.json"
        self.simulator = simulator
        self.bearers: dict[str, str] = {}
        """Those of keys: the simulator takes no others."""
        simulator.oauth("terms", resource_url=simulator.url)

    @property
    def env(self) -> dict[str, str]:
        """What makes a proxy ask the simulator for tokens."""
        return {
            "QWEN_OAUTH_BASE_URL": self.simulator.url,
            "SSL_CERT_FILE": str(self.simulator.ca_pem),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    @property
    def options(self) -> dict[str, str]:
        return trust(self.simulator)

    def key(self, name: str, base_url: str | None = None, **extra: Any) -> Entry:
        bearer = f"fake-key-{name}"
        self.bearers[bearer] = name
        self.simulator.accounts(self.bearers)
        return {
            "name": name,
            "apiKey": bearer,
            "baseUrl": base_url or self.simulator.base_url,
            **extra,
        }

    def oauth(self, name: str, *, expired: bool = False, **extra: Any) -> Entry:
        tokens = self.simulator.oauth("login", account=name)
        if expired:
            self.simulator.oauth("expire", account=name)
        return {
            "name": name,
            "refreshToken": tokens["refresh_token"],
            "accessToken": tokens["access_token"],
            "expires": now_ms() + (-60_000 if expired else 6 * HOUR_MS),
            "resourceUrl": self.simulator.url,
            **extra,
        }

    def write(self, *entries: Entry) -> None:
        """Replace the file in one step, as other programs do."""
        self.put(json.dumps({"version": 1, "accounts": entries, "activeIndex": 0}))

    def put(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.path)

    def on_disk(self, name: str) -> Account:
        found = parse(self.path.read_bytes(), self.path).find(name)
        assert found is not None, f"{name} is not in the file"
        return found


def limited(seconds: float, reason: str = "burst") -> Entry:
    """A cooldown as it is on disk."""
    now = now_ms()
    return {"until": now + round(seconds * 1000), "reason": reason, "since": now}


@contextmanager
def accounts_of(home: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    try:
        yield AccountsOfTest(home, simulator)
    finally:
        simulator.accounts({})


def wait_until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Ask again until it holds, for what happens eventually and nothing announces."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def ask(http: httpx.Client, model: str = "qwen3-coder-plus", **fields: Any) -> httpx.Response:
    """A streamed request."""
    body = {"model": model, "input": "hello there", "stream": True}
    return http.post("/responses", json=body | fields)


def chats(simulator: SimulatorProcess, **wanted: int) -> list[Event]:
    """The completions that were asked for."""
    listed = simulator.requests(**wanted)
    return [request for request in listed if request["path"].endswith("/chat/completions")]


def served(simulator: SimulatorProcess) -> list[str]:
    """The accounts that answered, in order."""
    return [request["account"] for request in chats(simulator) if request["status"] == 200]


def leaks(text: str) -> set[str]:
    return set(SECRET.findall(text))


def log_of(proxy: Proxy) -> str:
    """The log of a proxy in which nothing went wrong inside."""
    assert "Traceback" not in proxy.log
    assert "a bug in" not in proxy.log
    return proxy.log
