"""A login in the browser, and what it is worth."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack

from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.shown import document
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.accounts.verdicts import apply
from qwen_mitm.oauth.device import Prompt, account_of, log_in, new_verifier
from qwen_mitm.oauth.messages import Tokens
from qwen_mitm.oauth.transport import drive

from .asking import ask
from .free_tier import ended
from .outside import Outside
from .probe import Finding
from .speech import Complaint, Speech
from .stored import added, changed, free_name, how_to_enable, stored_accounts, without_cooldowns

_NAME = "qwen"


def log_in_with_browser(
    outside: Outside, speech: Speech, name: str | None, *, open_browser: bool
) -> None:
    """The device flow, then one request with what it gave.

    Raises:
        OAuthError: there is no login.
        Complaint: the name is that of a key.
        typer.Exit: requests are refused although the login succeeded; it is stored all the same.
    """
    store = outside.store()
    # What would keep the tokens from being stored is said before the person goes to the browser.
    if any(account.name == name and account.is_api_key for account in stored_accounts(store)):
        raise _is_a_key(name)
    tokens = _tokens(outside, speech, open_browser=open_browser)
    account = _keep(outside, store, tokens, name)
    speech.say(f"Logged in. The account is {account.name!r} in {store.path}.")
    if account.disabled:
        speech.note(how_to_enable(account), "yellow")
    with speech.doing("Asking for one token of an answer"):
        finding = ask(outside, account, "coder-model", refreshed=True)
    if finding.verdict.kind == "not_entitled":
        # The proxy need not find out again.
        now = outside.now()
        account = changed(store, account.name, lambda a: apply(a, finding.verdict, "*", now))
    _answer(outside, speech, account, finding)
    if finding.verdict.kind == "not_entitled":
        speech.fail(ended(finding.base_url))
    if finding.outcome == "works":
        speech.say(f"It works: {finding.seconds:.2f} s to the first token.")
    else:
        speech.note(f"Whether it works is not known yet. {finding.sentence}", "yellow")


def _answer(outside: Outside, speech: Speech, account: Account, finding: Finding) -> None:
    told = document(account, outside.now(), outside.settings().base_url)
    speech.answer({"account": told, "test": finding.document()})


def _tokens(outside: Outside, speech: Speech, *, open_browser: bool) -> Tokens:
    settings = outside.settings()
    flow = log_in(
        settings.oauth_base_url,
        settings.client_id,
        verifier=new_verifier(),
        request_id=str(uuid.uuid4()),
        clock=time.monotonic,
    )
    with ExitStack() as waiting:

        def show(prompt: Prompt) -> None:
            opened = open_browser and outside.show_in_browser(prompt.address)
            _show(speech, prompt, opened=opened)
            waiting.enter_context(speech.doing("Waiting for you to confirm in the browser"))

        with outside.client(settings.oauth_base_url) as client:
            return drive(flow, client, show=show, sleep=outside.sleep)


def _show(speech: Speech, prompt: Prompt, *, opened: bool) -> None:
    how = "Your browser shows this page; if not, open it" if opened else "Open this page"
    speech.note(f"{how} on any device and confirm the login:\n\n  {prompt.address}\n")
    if speech.can_show_pictures and not opened:
        # Nothing else needs the library that draws.
        from .qr import picture

        speech.note(picture(prompt.address))
    minutes = max(1, prompt.expires_in // 60)
    speech.note(f"The code is {prompt.user_code}. It is good for {minutes} min. Ctrl-C stops.\n")
    speech.answer(
        {
            "address": prompt.address,
            "verification_uri": prompt.verification_uri,
            "user_code": prompt.user_code,
            "expires_in": prompt.expires_in,
        }
    )


def _keep(outside: Outside, store: AccountStore, tokens: Tokens, name: str | None) -> Account:
    now = outside.now()
    kept: Account | None = None

    def change(file: AccountFile) -> AccountFile:
        nonlocal kept
        old = file.find(name) if name else None
        if old is None:
            kept = account_of(tokens, name or free_name(file, _NAME), now)
            return added(file, kept)
        if old.is_api_key:
            raise _is_a_key(name)
        # The refresh token of the login before does not belong to this one.
        fields = {**tokens.fields(now), "refresh_token": tokens.refresh_token}
        kept = without_cooldowns(old).model_copy(update=fields)
        return file.replace(kept)

    store.update(change)
    assert kept is not None
    return kept


def _is_a_key(name: str | None) -> Complaint:
    return Complaint(f"The account {name!r} is an API key. Give the login another --name.")
