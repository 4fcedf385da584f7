"""Changes of the account file that the commands make."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import SecretStr

from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.oauth.refresh import Refresher

from .outside import Outside
from .speech import Complaint

_LONGEST_NAME = 64


def stored_accounts(store: AccountStore) -> tuple[Account, ...]:
    """Those of the file; none when there is no file.

    Raises:
        NoUsableAccount: the file cannot be used.
    """
    return store.accounts() if store.path.exists() else ()


def stored_account(store: AccountStore, name: str) -> Account:
    """The one of that name.

    Raises:
        Complaint: there is none.
    """
    accounts = stored_accounts(store)
    for account in accounts:
        if account.name == name:
            return account
    raise _no_such(name, accounts, store.path)


def _no_such(name: str, accounts: tuple[Account, ...], path: Path) -> Complaint:
    if not accounts:
        return Complaint(f"There is no account in {path}. `qwen-mitm login` adds one.")
    known = ", ".join(repr(account.name) for account in accounts)
    return Complaint(f"There is no account named {name!r}; there are: {known}.")


def changed(store: AccountStore, name: str, how: Callable[[Account], Account]) -> Account:
    """The account of that name after a change of it on disk.

    Raises:
        Complaint: there is none, or its new name is taken.
    """
    stored_account(store, name)
    after: Account | None = None

    def change(file: AccountFile) -> AccountFile:
        nonlocal after
        before = file.find(name)
        if before is None:
            raise _no_such(name, file.accounts, store.path)
        after = how(before)
        if after.name != name and file.find(after.name):
            raise Complaint(f"There is already an account named {after.name!r}.")
        return file.change(name, lambda _: after or before)

    store.update(change)
    assert after is not None
    return after


def removed(store: AccountStore, name: str) -> None:
    """Take an account out of the file.

    Raises:
        Complaint: there is none.
    """

    def change(file: AccountFile) -> AccountFile:
        if file.find(name) is None:
            raise _no_such(name, file.accounts, store.path)
        return file.remove(name)

    store.update(change)


def clear_cooldowns(store: AccountStore, names: Sequence[str]) -> None:
    """Forget why these are left alone; those that are gone by now do not matter."""

    def clear(file: AccountFile) -> AccountFile:
        for name in names:
            file = file.change(name, without_cooldowns)
        return file

    if names:
        store.update(clear)


def without_cooldowns(account: Account) -> Account:
    return account.model_copy(update={"cooldowns": {}, "rate_limit_reset_at": None})


def added(file: AccountFile, account: Account) -> AccountFile:
    """With one more.

    Raises:
        Complaint: its name is taken or its token was used up.
    """
    try:
        return file.add(account)
    except ValueError as error:
        raise Complaint(f"Account {account.name!r} cannot be added: {error}.") from None


def checked_name(name: str) -> str:
    """A name as it is stored.

    Raises:
        Complaint: nobody could type it.
    """
    name = " ".join(name.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise Complaint(f"A name has 1 to {_LONGEST_NAME} printable characters.")
    return name


def how_to_enable(account: Account) -> str:
    """What is to be said of a disabled account that has a new credential."""
    return (
        f"{account.name!r} is disabled, and no request is sent with it. "
        f"`qwen-mitm accounts enable {shlex.quote(account.name)}` changes that."
    )


def free_name(file: AccountFile, wanted: str) -> str:
    name, number = wanted, 2
    while file.find(name):
        name, number = f"{wanted}-{number}", number + 1
    return name


def renewed(
    outside: Outside,
    store: AccountStore,
    account: Account,
    *,
    rejected: SecretStr | None = None,
    force: bool = False,
) -> Account:
    """The account with an access token that is good, redeemed once among all processes.

    Raises:
        OAuthError: it has none.
    """
    # What is worth a line in a proxy's log comes back as an error here.
    logging.getLogger("qwen_mitm").addHandler(logging.NullHandler())

    async def renew() -> Account:
        refresher = Refresher(
            store,
            lambda: outside.client(outside.settings().oauth_base_url),
            outside.settings,
            outside.now,
        )
        try:
            return await refresher.fresh(account, rejected_access_token=rejected, force=force)
        finally:
            await refresher.aclose()

    return asyncio.run(renew())
