"""Logins of other programs, taken into the account file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen_mitm.accounts.importers import found, read_login
from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.store import AccountStore

from .outside import Outside
from .speech import Complaint, Speech
from .stored import added, free_name, without_cooldowns

WARNING = (
    "Log out of the other program now (in qwen-code: remove ~/.qwen/oauth_creds.json). A refresh "
    "token works once: while both programs have it, the first to refresh logs the other one out."
)


def import_logins(outside: Outside, speech: Speech, files: Sequence[Path]) -> None:
    """Add the accounts of these files, or of those that are in the home folder.

    Raises:
        Complaint: there is nothing to import.
        ImportFailed: a file is no login; those before it are imported.
    """
    store = outside.store()
    paths = [path.expanduser() for path in files] or found(Path.home())
    if not paths:
        raise Complaint(
            "There is no login of another program: neither ~/.qwen/oauth_creds.json nor "
            "~/.qwen/oauth_creds_*.json nor ~/.cli-proxy-api/qwen-*.json. Name a file, or log in "
            "with `qwen-mitm login`."
        )
    imported: list[str] = []
    known: list[str] = []
    for path in paths:
        account = read_login(path, now=outside.now())
        name, is_new = _take(store, account)
        (imported if is_new else known).append(name)
        what = "imported as" if is_new else "is already there as"
        speech.say(f"{path} {what} {name!r}.")
    if imported:
        speech.note(WARNING, "yellow")
        speech.note(f"Whether it works: `qwen-mitm accounts test {imported[0]}`.")
    speech.answer({"imported": imported, "already_there": known})


def _take(store: AccountStore, account: Account) -> tuple[str, bool]:
    """The name of the account in the file, and whether it was changed for that."""
    name, is_new = account.name, True

    def change(file: AccountFile) -> AccountFile:
        nonlocal name, is_new
        same = (old for old in file.accounts if old.refresh_token == account.refresh_token)
        if (old := next(same, None)) is not None:
            name, is_new = old.name, False
            return file
        dead = file.find(account.name)
        if dead is not None and dead.needs_login and not dead.is_api_key:
            # The other program has refreshed since this was copied, or was logged in anew.
            name = dead.name
            return file.change(name, lambda old: _revived(old, account))
        name = free_name(file, account.name)
        return added(file, account.model_copy(update={"name": name}))

    store.update(change)
    return name, is_new


def _revived(old: Account, login: Account) -> Account:
    fields = ("refresh_token", "access_token", "expires", "resource_url")
    tokens = {field: getattr(login, field) for field in fields}
    return without_cooldowns(old).model_copy(update={**tokens, "needs_login": False})
