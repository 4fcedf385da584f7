"""`qwen-mitm login --provider web-chat`, and what the other commands do with such an account."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal
from urllib.parse import urlsplit

import typer

from qwen_mitm.accounts.model import WEB_CHAT_URL, Account, AccountFile
from qwen_mitm.accounts.shown import document
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.accounts.verdicts import OK, Verdict
from qwen_mitm.web_chat.client import Reply, WebChatClient, open_http
from qwen_mitm.web_chat.credentials import Credentials, CredentialStore, read_credentials
from qwen_mitm.web_chat.database import Database, database_path
from qwen_mitm.web_chat.errors import (
    LOGIN,
    CredentialsBlocked,
    CredentialsExpired,
    CredentialsMissing,
    RateLimited,
    WebChatError,
)
from qwen_mitm.wire.chat_request import ChatRequest, ChatText, UserMessage

from .key_file import read_key_file
from .key_login import check_address
from .outside import Outside, is_loopback
from .probe import Finding
from .speech import Complaint, Speech
from .stored import added, free_name, how_to_enable, stored_accounts, without_cooldowns

PROVIDER: Final = "web-chat"
_TERMS: Final = (
    "The web chat is experimental: chat.qwen.ai is a page for people and no documented interface, "
    "so that this may stop at any time. Whether you may use it so, its provider's terms say."
)
_MODEL: Final = "qwen3-max"
_QUESTION: Final = "Say OK."

type Outcome = Literal["works", "limited", "refused", "silent"]


def log_in_to_web_chat(
    outside: Outside,
    speech: Speech,
    *,
    name: str | None,
    base_url: str | None,
    key_file: str | None,
    force: bool,
) -> None:
    """Store the token and the cookies of a browser.

    Raises:
        Complaint: they are none, or the site does not answer them.
    """
    store = outside.store()
    if base_url is not None:
        check_address(base_url)
    old = next((a for a in stored_accounts(store) if a.name == name), None)
    if old is not None and not old.is_web_chat:
        raise Complaint(f"The account {name!r} is no web chat. Give this one another --name.")
    speech.note(_TERMS, "yellow")
    credentials = _asked(speech, key_file)
    if credentials.is_over(time.time()):
        raise Complaint("The login among the cookies is over. Open chat.qwen.ai and log in again.")
    url = base_url or (old.endpoint(WEB_CHAT_URL) if old else WEB_CHAT_URL)
    with speech.doing(f"Trying {url}"):
        health = _run(url, credentials, WebChatClient.health_check)
    if health.error is not None:
        speech.note(f"  {url}: {health.error.message}")
        if not force:
            raise Complaint("Nothing was stored. With --force it is stored unseen.")
    kept = _keep(outside, store, credentials, name, base_url)
    speech.say(f"The account is {kept.name!r} in {store.path}, at {url}.")
    speech.say(f"Its credentials are in {_database().path}, readable for you alone.")
    if kept.disabled:
        speech.note(how_to_enable(kept), "yellow")
    speech.answer({"account": document(kept, outside.now(), outside.settings().base_url)})


def ask_web_chat(outside: Outside, account: Account, model: str | None) -> Finding:
    """A message to a new chat."""
    url, model = account.endpoint(WEB_CHAT_URL), model or _MODEL
    began = time.monotonic()
    try:
        credentials = _store().get(account.credential_id)
        if credentials is None:
            raise CredentialsMissing(f"there are no credentials that are good. {LOGIN}")
        question = ChatRequest(
            model=model, system=None, messages=(UserMessage((ChatText(_QUESTION),)),)
        )

        async def say(client: WebChatClient) -> Reply:
            return await client.chat(question, _QUESTION)

        _run(url, credentials, say)
    except WebChatError as error:
        verdict = error.verdict(outside.now())
        outcome: Outcome = "silent"
        if isinstance(error, RateLimited):
            outcome = "limited"
        elif isinstance(error, CredentialsMissing | CredentialsExpired | CredentialsBlocked):
            outcome = "refused"
        return _finding(url, outcome, error.message, began, verdict, error.status, model)
    return _finding(url, "works", "", began, OK, 200, model)


def forget_credentials(account: Account) -> None:
    """Those of an account that is removed.

    Raises:
        WebChatError: the file cannot be changed.
    """
    if account.is_web_chat and account.credential_id is not None:
        _store().delete(account.credential_id)


def _asked(speech: Speech, key_file: str | None) -> Credentials:
    if key_file is not None:
        lines = [line for line in read_key_file(key_file).splitlines() if line.strip()]
        if len(lines) != 2:
            raise Complaint("The file has two lines: the bx-umidtoken, and the cookies.")
        token, cookies = lines
    elif speech.can_ask():
        token = typer.prompt("bx-umidtoken", hide_input=True, err=True)
        cookies = typer.prompt("Cookies", hide_input=True, err=True)
    else:
        raise Complaint(
            "There is nobody to ask for the token and the cookies. Give them with --key-file FILE, "
            "or with --key-file - on standard input: one line each."
        )
    try:
        return read_credentials(token, cookies)
    except ValueError:
        # Its words might quote what was given.
        raise Complaint(
            "These are no credentials of the web chat: a bx-umidtoken is one word, and cookies "
            "look like name=value; name=value."
        ) from None


def _run[T](url: str, credentials: Credentials, act: Callable[[WebChatClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_http(trust_env=not is_loopback(urlsplit(url).hostname or "")) as http:
            return await act(WebChatClient(http, url, credentials))

    return asyncio.run(run())


def _keep(
    outside: Outside,
    store: AccountStore,
    credentials: Credentials,
    name: str | None,
    base_url: str | None,
) -> Account:
    """The credentials first: an account whose credentials are missing would be of no use."""
    kept: Account | None = None
    credential_store = _store()

    def change(file: AccountFile) -> AccountFile:
        nonlocal kept
        old = file.find(name or PROVIDER)
        if old is None or not old.is_web_chat:
            stored = credential_store.set(credentials)
            kept = Account(
                name=name or free_name(file, PROVIDER),
                kind="web_chat",
                base_url=base_url,
                credential_id=stored.id,
                added_at=outside.now(),
            )
            return added(file, kept)
        replaced = None
        if old.credential_id is not None:
            replaced = credential_store.update(old.credential_id, credentials)
        stored = replaced or credential_store.set(credentials)
        fields = {"credential_id": stored.id, "base_url": base_url or old.base_url}
        kept = without_cooldowns(old).model_copy(update=fields)
        return file.replace(kept)

    store.update(change)
    assert kept is not None
    return kept


def _finding(
    url: str,
    outcome: Outcome,
    words: str,
    began: float,
    verdict: Verdict,
    status: int,
    model: str,
) -> Finding:
    return Finding(
        base_url=url,
        outcome=outcome,
        words=words,
        seconds=time.monotonic() - began,
        verdict=verdict,
        status=status,
        model=model,
    )


def _database() -> Database:
    return Database(database_path(os.environ))


def _store() -> CredentialStore:
    return CredentialStore(_database(), time.time)
