"""The commands with a home folder of their own, and simulators in place of every vendor."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.cli import app
from qwen_mitm.cli.outside import Outside
from qwen_mitm.provider_hosts import VENDORS, Vendor
from qwen_mitm.simulator import SimulatorProcess

ROOT = Path(__file__).parents[2]
#: A port that nothing listens at.
NOWHERE = "http://127.0.0.1:9/v1"
#: What the simulator's tokens and the keys of these tests look like.
SECRET = re.compile(r"sim-(refresh|access|device)-|fakesecret")

# Before click 8.2 both streams are one unless told otherwise.
_IS_OLD = "mix_stderr" in inspect.signature(CliRunner).parameters
_APART: dict[str, Any] = {"mix_stderr": False} if _IS_OLD else {}


def vendors_at(places: Mapping[str, tuple[str, ...]]) -> dict[str, Vendor]:
    """Every vendor that has hosts at these, or nowhere."""
    return {
        name: vendor if vendor.is_own else replace(vendor, base_urls=places.get(name, (NOWHERE,)))
        for name, vendor in VENDORS.items()
    }


class Terminal:
    def __init__(self, home: Path, simulator: SimulatorProcess) -> None:
        self.home = home
        self.simulator = simulator
        self.places: dict[str, tuple[str, ...]] = {}
        self.browser: Callable[[str], bool] = lambda address: False
        self.env = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "APPDATA": str(home / ".config"),
            "QWEN_OAUTH_BASE_URL": simulator.url,
        }
        self.store = AccountStore(home / ".config" / "opencode" / "qwen-auth-accounts.json")

    def run(self, *words: str, text: str | None = None) -> Result:
        """A command, none of whose output may hold a secret."""
        foreign = {name: None for name in os.environ if name.startswith("QWEN_")}
        outside = Outside(
            vendors=vendors_at(self.places),
            show_in_browser=lambda address: self.browser(address),
            sleep=lambda seconds: None,
        )
        done = CliRunner(**_APART).invoke(
            app, list(words), input=text, env={**foreign, **self.env}, obj=outside
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert not SECRET.search(done.stdout + done.stderr)
        return done

    def json(self, *words: str, text: str | None = None) -> dict[str, Any]:
        """The last document that a command prints with --json."""
        done = self.run(*words, "--json", text=text)
        documents = [json.loads(line) for line in done.stdout.splitlines()]
        assert documents, done.stderr
        last: dict[str, Any] = documents[-1]
        return last

    def add(self, *accounts: Account) -> None:
        def change(file: AccountFile) -> AccountFile:
            for account in accounts:
                file = file.add(account)
            return file

        self.store.update(change)

    def account(self, name: str) -> Account:
        return next(account for account in self.accounts() if account.name == name)

    def accounts(self) -> tuple[Account, ...]:
        """As they are on disk."""
        store = AccountStore(self.store.path)
        return store.accounts() if store.path.exists() else ()

    def log_in(self, name: str = "work", **fields: Any) -> Account:
        """An OAuth account at the simulator."""
        tokens = self.simulator.oauth("login", account=name)
        account = Account.model_validate(
            {
                "name": name,
                "kind": "oauth",
                "refresh_token": tokens["refresh_token"],
                "access_token": tokens["access_token"],
                "resource_url": self.simulator.base_url,
                "expires": 4_000_000_000_000,
                **fields,
            }
        )
        self.add(account)
        return account

    def process_env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QWEN_")}
        path = os.pathsep.join([str(ROOT / "addon"), str(ROOT)])
        return {**kept, **self.env, "PYTHONPATH": path, "PYTHONUTF8": "1"}

    def command(self, *words: str) -> list[str]:
        """The same in a process, by the way that is installed."""
        return [sys.executable, "-m", "qwen_mitm.cli", *words]
