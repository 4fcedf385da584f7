"""A process that wants fresh tokens: ``python -m tests.oauth.worker FILE OAUTH_URL``.

Each line of its standard input is a number of calls to make at once, and gets one line of JSON: the
access tokens and the names of the errors. ``fork`` starts a child that refreshes again and again,
and gets its process id.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import httpx
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.oauth.refresh import Refresher
from qwen_mitm.settings import Settings


def refresher(path: Path, oauth_url: str) -> Refresher:
    settings = Settings(oauth_base_url=oauth_url)
    return Refresher(
        AccountStore(path),
        lambda: httpx.Client(trust_env=False, verify=False, timeout=30),
        lambda: settings,
        lambda: time.time_ns() // 1_000_000,
    )


def stored(path: Path) -> Account:
    return AccountStore(path).accounts()[0]


async def calls(account: Account, path: Path, oauth_url: str, count: int) -> dict[str, list[str]]:
    refreshing = refresher(path, oauth_url)
    tokens: set[str] = set()
    errors: set[str] = set()
    everything = (refreshing.fresh(account) for _ in range(count))
    for result in await asyncio.gather(*everything, return_exceptions=True):
        if isinstance(result, BaseException):
            errors.add(type(result).__name__)
        else:
            tokens.add((result.access_token or SecretStr("")).get_secret_value())
    await refreshing.aclose()
    return {"tokens": sorted(tokens), "errors": sorted(errors)}


async def refresh_for_ever(path: Path, oauth_url: str) -> None:
    refreshing = refresher(path, oauth_url)
    while True:
        await refreshing.fresh(stored(path), force=True)


def fork(path: Path, oauth_url: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        asyncio.run(refresh_for_ever(path, oauth_url))
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    path, oauth_url = Path(sys.argv[1]), sys.argv[2]
    account = stored(path)
    say("ready")
    for line in sys.stdin:
        if line.strip() == "fork":
            say(fork(path, oauth_url))
        elif line.startswith("reap"):
            os.waitpid(int(line.split()[1]), 0)
            say("reaped")
        else:
            result = asyncio.run(calls(account, path, oauth_url, int(line)))
            say(json.dumps(result))


if __name__ == "__main__":
    main()
