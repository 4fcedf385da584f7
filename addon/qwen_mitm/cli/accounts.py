"""`qwen-mitm accounts`: seeing and changing the accounts that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.shown import document
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.oauth.errors import OAuthError
from qwen_mitm.web_chat.errors import LOGIN

from .asking import ask
from .free_tier import ended
from .imports import import_logins
from .outside import Outside
from .probe import Finding
from .speech import FAILED, AsJson, Complaint, Speech
from .stored import (
    changed,
    checked_name,
    clear_cooldowns,
    removed,
    renewed,
    stored_account,
    stored_accounts,
)
from .table import accounts_table, remarks
from .web_chat import forget_credentials

app = typer.Typer(
    help="See and change the accounts. A running proxy reads what you change at once.",
    invoke_without_command=True,
)

Name = Annotated[str, typer.Argument(help="The account's name.", show_default=False)]


@app.callback()
def list_accounts(context: typer.Context, as_json: AsJson = False) -> None:
    """List the accounts: state, until when it lasts, use of today (UTC)."""
    if context.invoked_subcommand is not None:
        return
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        store, now = outside.store(), outside.now()
        accounts = stored_accounts(store)
        default_url = outside.settings().base_url
        speech.answer(
            {
                "file": str(store.path),
                "accounts": [document(account, now, default_url) for account in accounts],
            }
        )
        if not accounts:
            speech.say(f"There is no account in {store.path}. `qwen-mitm login` adds one.")
            return
        speech.say(accounts_table(accounts, now, default_url))
        for remark in remarks(accounts, now):
            speech.say(remark)
        if store.too_open():
            speech.note(f"Others on this machine can read {store.path}: chmod 600 it.", "yellow")


@app.command("rename")
def rename(context: typer.Context, old: Name, new: Name, as_json: AsJson = False) -> None:
    """Give an account another name."""
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        name = checked_name(new)
        account = changed(outside.store(), old, lambda a: a.model_copy(update={"name": name}))
        _tell(outside, speech, account, f"{old!r} is named {name!r} now.")


@app.command("disable")
def disable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Leave an account out, without losing it."""
    _switch(context, name, disabled=True, as_json=as_json)


@app.command("enable")
def enable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Use an account again."""
    _switch(context, name, disabled=False, as_json=as_json)


def _switch(context: typer.Context, name: str, *, disabled: bool, as_json: bool) -> None:
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        account = changed(
            outside.store(), name, lambda a: a.model_copy(update={"disabled": disabled})
        )
        word = "disabled" if disabled else "enabled"
        _tell(outside, speech, account, f"{name!r} is {word}.")


@app.command("remove")
def remove(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete an account, with its key or login."""
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        store = outside.store()
        account = stored_account(store, name)
        if not yes:
            if not speech.can_ask():
                raise Complaint(f"Removing {name!r} needs --yes where nobody can be asked.")
            question = f"Remove account {name!r} and its credential for good?"
            if not typer.confirm(question, err=True):
                speech.say("Nothing was removed.")
                return
        removed(store, name)
        forget_credentials(account)
        speech.say(f"{name!r} is removed.")
        speech.answer({"removed": name})


@app.command("clear-cooldown")
def clear_cooldown(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Of all accounts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget why an account is left alone, so that the next request may take it."""
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        if (name is None) != everyone:
            raise Complaint("Name one account, or say --all.")
        store = outside.store()
        accounts = stored_accounts(store) if name is None else (stored_account(store, name),)
        cooling = [a.name for a in accounts if a.cooldowns or a.rate_limit_reset_at]
        clear_cooldowns(store, cooling)
        speech.say(f"Cleared: {', '.join(cooling)}." if cooling else "There was nothing to clear.")
        speech.answer({"cleared": cooling})


@app.command("refresh")
def refresh(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Redeem the refresh token of a login now."""
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        store = outside.store()
        account = stored_account(store, name)
        if account.is_api_key:
            raise Complaint(f"{name!r} has an API key, which is not refreshed.")
        if account.is_web_chat:
            raise Complaint(f"{name!r} is a web chat, which is not refreshed. {LOGIN}")
        with speech.doing(f"Refreshing {name}"):
            account = renewed(outside, store, account, force=True)
        _tell(outside, speech, account, f"{name!r} has a new token.")


@app.command("import")
def take_logins(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of qwen-code or CLIProxyAPI; none: those at home."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the logins of qwen-code and CLIProxyAPI."""
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        import_logins(outside, speech, files or ())


@app.command("test")
def try_accounts(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to ask.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask with one account, or with each that is not disabled, for one token of an answer."""
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        store = outside.store()
        if name is not None:
            accounts: tuple[Account, ...] = (stored_account(store, name),)
        else:
            accounts = tuple(a for a in stored_accounts(store) if not a.disabled)
        if not accounts:
            raise Complaint("There is no account to test. `qwen-mitm login` adds one.")
        results = [_report(outside, speech, store, account, model) for account in accounts]
        speech.answer({"tests": results})
        if not all(result["outcome"] == "works" for result in results):
            raise typer.Exit(FAILED)


def _report(
    outside: Outside, speech: Speech, store: AccountStore, account: Account, model: str | None
) -> dict[str, object]:
    name = account.name
    try:
        with speech.doing(f"Asking with {name}"):
            finding = _asked(outside, store, account, model)
    except OAuthError as error:
        speech.note(error.message, "red")
        return {"name": name, "outcome": "refused", "message": error.message}
    line = f"{name}: {finding.sentence}"
    if finding.outcome != "works":
        speech.note(f"{line} ({finding.base_url})", "red")
        is_login = not (account.is_api_key or account.is_web_chat)
        if finding.verdict.kind == "not_entitled" and is_login:
            speech.note(ended(finding.base_url))
    else:
        speech.say(f"{line} ({finding.model})")
        if account.cooldown("*", outside.now()):
            speech.say(f"  It is still marked as limited: qwen-mitm accounts clear-cooldown {name}")
    return {"name": name, **finding.document()}


def _asked(outside: Outside, store: AccountStore, account: Account, model: str | None) -> Finding:
    account = renewed(outside, store, account) if not account.is_api_key else account
    finding = ask(outside, account, model)
    if finding.verdict.kind == "needs_refresh":
        account = renewed(outside, store, account, rejected=account.access_token)
        finding = ask(outside, account, model, refreshed=True)
    return finding


def _tell(outside: Outside, speech: Speech, account: Account, words: str) -> None:
    speech.say(words)
    speech.answer({"account": document(account, outside.now(), outside.settings().base_url)})
