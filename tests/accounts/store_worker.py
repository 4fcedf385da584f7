"""A process that changes an account file, for tests that need real ones.

``count FILE N``: N changes, each adding one to every number the file has of it.
``kill FILE ROUNDS SECONDS``: start a writer and kill it at a random moment, again and again; after
each, everything must be there. Prints what happened as JSON.
``fill FILE BYTES``: one change on a disk that takes no more than BYTES a file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from qwen_mitm.accounts.files import AccountFileError
from qwen_mitm.accounts.model import Account, AccountFile, DayUsage
from qwen_mitm.accounts.store import AccountStore


def count(account: Account) -> Account:
    used = account.usage.requests if account.usage else 0
    usage = DayUsage(date="2026-01-01", requests=used + 1)
    return account.model_copy(update={"usage": usage})


def count_all(file: AccountFile) -> AccountFile:
    return file.model_copy(update={"accounts": tuple(count(a) for a in file.accounts)})


def rotate(file: AccountFile) -> AccountFile:
    """As a refresh does: new tokens for every account, told apart by their number."""
    for account in file.accounts:
        number = (account.last_used or 0) + 1
        file = file.replace(
            account.model_copy(
                update={
                    "refresh_token": SecretStr(f"fake-refresh-{account.name}-{number}"),
                    "access_token": SecretStr(f"fake-access-{account.name}-{number}" + "x" * 500),
                    "last_used": number,
                }
            )
        )
    return file


def is_whole(account: Account) -> bool:
    """Whether its two tokens are of the same rotation."""
    refresh, access = account.refresh_token, account.access_token
    number = account.last_used
    return (
        refresh is not None
        and access is not None
        and refresh.get_secret_value() == f"fake-refresh-{account.name}-{number}"
        and access.get_secret_value().startswith(f"fake-access-{account.name}-{number}x")
    )


def write_for_ever(path: Path) -> None:
    store = AccountStore(path)
    while True:
        store.update(rotate)


def kill(path: Path, rounds: int, seconds: float) -> dict[str, object]:
    store = AccountStore(path)
    names = [account.name for account in store.update(rotate).accounts]
    deadline = time.monotonic() + seconds
    done, changed = 0, 0
    while done < rounds and time.monotonic() < deadline:
        before = store.accounts()[0].last_used
        child = os.fork()
        if child == 0:
            write_for_ever(path)
        time.sleep(random.uniform(0.002, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        accounts = store.accounts()
        if [a.name for a in accounts] != names or not all(map(is_whole, accounts)):
            return {"lost_in_round": done}
        done += 1
        changed += accounts[0].last_used != before
    store.update(rotate)
    left = sorted(p.name for p in path.parent.iterdir())
    return {"rounds": done, "rounds_that_wrote": changed, "left": left}


def fill(path: Path, size: int) -> dict[str, object]:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        AccountStore(path).update(rotate)
    except AccountFileError as error:
        return {"error": error.message}
    return {"error": None}


def main() -> None:
    task, path, numbers = sys.argv[1], Path(sys.argv[2]), [float(n) for n in sys.argv[3:]]
    result: object = None
    match task:
        case "count":
            store = AccountStore(path)
            for _ in range(int(numbers[0])):
                store.update(count_all)
        case "kill":
            result = kill(path, int(numbers[0]), numbers[1])
        case "fill":
            result = fill(path, int(numbers[0]))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
