"""A refresher before a simulator, with an account file between them and a clock by hand."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.oauth.refresh import Refresher
from qwen_mitm.settings import Settings
from qwen_mitm.simulator import Simulator

ROOT = Path(__file__).parents[2]
#: Long ago, so that tokens that are over by this clock are over for other processes too.
NOW = 1_700_000_000_000
HOUR = 3_600_000


class Desk:
    def __init__(self, simulator: Simulator, path: Path) -> None:
        self.simulator = simulator
        self.logins = simulator.oauth.logins
        self.now = NOW
        self.timeout = 5.0
        self.settings = Settings(oauth_base_url=simulator.url)
        self.store = AccountStore(path)
        self.refresher = self.another(self.store)

    def client(self) -> httpx.Client:
        return httpx.Client(trust_env=False, verify=False, timeout=self.timeout)

    def another(
        self,
        store: AccountStore | None = None,
        client: Callable[[], httpx.Client] | None = None,
    ) -> Refresher:
        """As another process has one."""
        return Refresher(
            store or AccountStore(self.store.path),
            client or self.client,
            lambda: self.settings,
            lambda: self.now,
        )

    def log_in(self, name: str = "work", *, left: int = -HOUR, **fields: Any) -> Account:
        """An account whose access token has so many ms left."""
        family = self.logins.login(name)
        account = Account(
            name=name,
            kind="oauth",
            refresh_token=SecretStr(family.refresh_token),
            access_token=SecretStr(family.access_token),
            expires=self.now + left,
        ).model_copy(update=fields)
        self.store.update(lambda file: file.add(account))
        return account

    def on_disk(self, name: str = "work") -> Account:
        """Read without any memory of the file."""
        for account in AccountStore(self.store.path).accounts():
            if account.name == name:
                return account
        raise LookupError(name)

    @property
    def outcomes(self) -> list[str]:
        return [redeem.outcome for redeem in self.logins.redeems]

    def valid_token(self, name: str = "work") -> SecretStr:
        return SecretStr(self.logins.of(name).access_token)


class Worker:
    """tests/oauth/worker.py in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    def say(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n".encode())

    async def ask(self, what: str) -> str:
        self.say(what)
        return await self.line()


@asynccontextmanager
async def worker(desk: Desk) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.oauth.worker", str(desk.store.path), desk.simulator.url),
        cwd=ROOT,
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "addon")])},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    running = Worker(process)
    try:
        assert await running.line() == "ready"
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
