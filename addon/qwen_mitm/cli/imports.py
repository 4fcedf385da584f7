"""Logins of other programs, taken into the account file."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer
from pydantic import ValidationError

from qwen_mitm.accounts.importers import ImportFailed, found, read_login
from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.errors import BridgeError

from .outside import Outside
from .speech import FAILED, Complaint, Speech, clean
from .stored import added, free_name, without_cooldowns

#: The key of an entry that says which file it was copied from.
_SOURCE: Final = "importedFrom"

WARNING = (
    "Log out of the other program now (in qwen-code: remove ~/.qwen/oauth_creds.json). A refresh "
    "token works once: while both programs have it, the first to refresh logs the other one out."
)


def import_logins(outside: Outside, speech: Speech, files: Sequence[Path]) -> None:
    """Add the accounts of these files, or of those that are in the home folder.

    Raises:
        Complaint: there is nothing to import.
        typer.Exit: some file could not be imported; the others were.
    """
    store = outside.store()
    paths = files or found(Path.home())
    if not paths:
        raise Complaint(
            "There is no login of another program: neither ~/.qwen/oauth_creds.json nor "
            "~/.qwen/oauth_creds_*.json nor ~/.cli-proxy-api/qwen-*.json. Name a file, or log in "
            "with `qwen-mitm login`."
        )
    imported: list[str] = []
    known: list[str] = []
    failed: list[dict[str, str]] = []
    for path in paths:
        try:
            name, is_new = _take(store, _login(outside, path), path)
        except (ImportFailed, Complaint, BridgeError) as error:
            speech.note(str(error), "red")
            failed.append({"file": str(path), "error": clean(str(error))})
            continue
        (imported if is_new else known).append(name)
        what = "imported as" if is_new else "is already there as"
        speech.say(f"{path} {what} {name!r}.")
    if imported:
        speech.note(WARNING, "yellow")
        speech.note(f"Whether it works: `qwen-mitm accounts test {shlex.quote(imported[0])}`.")
    speech.answer({"imported": imported, "already_there": known, "failed": failed})
    if failed:
        raise typer.Exit(FAILED)


def _login(outside: Outside, path: Path) -> Account:
    try:
        return read_login(path.expanduser(), now=outside.now())
    except RuntimeError:
        raise ImportFailed(f"{path} is in a home folder that there is not.") from None
    except ValidationError:
        # Its words may quote the token.
        raise ImportFailed(f"{path} has a token that cannot be sent in a header.") from None


def _take(store: AccountStore, login: Account, path: Path) -> tuple[str, bool]:
    """The name of the account in the file, and whether it was changed for that."""
    source = str(path.expanduser().resolve())
    name, is_new = login.name, True

    def change(file: AccountFile) -> AccountFile:
        nonlocal name, is_new
        if (same := _same_login(file, login, path)) is not None:
            name, is_new = same.name, False
            return file
        old = _replaceable(file, login, source)
        is_new = old is None or old.needs_login or _is_later(login, old)
        if old is None:
            name = free_name(file, login.name)
            return added(file, login.model_copy(update={"name": name, _SOURCE: source}))
        name = old.name
        return file.change(name, lambda dead: _revived(dead, login, source)) if is_new else file

    store.update(change)
    return name, is_new


def _same_login(file: AccountFile, login: Account, path: Path) -> Account | None:
    """The account that has this refresh token, or had it.

    Raises:
        Complaint: it had it, and has no other now.
    """
    assert login.refresh_token
    token = login.refresh_token.get_secret_value()
    spent = hashlib.sha256(token.encode()).hexdigest()
    for account in file.accounts:
        if account.refresh_token == login.refresh_token:
            return account
        if spent in account.spent_refresh_tokens:
            if account.needs_login:
                raise Complaint(
                    f"{path} has a refresh token of {account.name!r} that was redeemed already. "
                    "Log in again, there or here."
                )
            return account
    return None


def _replaceable(file: AccountFile, login: Account, source: str) -> Account | None:
    """The account that was imported from the same file, or that waits for a login of its name."""
    for account in file.accounts:
        if not account.is_api_key and (account.model_extra or {}).get(_SOURCE) == source:
            return account
    dead = file.find(login.name)
    return dead if dead and dead.needs_login and not dead.is_api_key else None


def _is_later(login: Account, old: Account) -> bool:
    """Whether the other program has refreshed since, or was logged in anew."""
    return (login.expires or 0) > (old.expires or 0)


def _revived(old: Account, login: Account, source: str) -> Account:
    fields = ("refresh_token", "access_token", "expires", "resource_url")
    tokens = {field: getattr(login, field) for field in fields}
    return without_cooldowns(old).model_copy(
        update={**tokens, "needs_login": False, _SOURCE: source}
    )
