"""`qwen-mitm login`: a new account, or new credentials for one that there is."""

from __future__ import annotations

from typing import Annotated

import typer

from qwen_mitm.provider_hosts import provider_named
from qwen_mitm.providers import Wire

from . import web_chat
from .imports import import_logins
from .key_login import KeyLogin, log_in_with_key
from .oauth_login import log_in_with_browser
from .outside import Outside
from .speech import AsJson, Complaint, Speech
from .stored import checked_name

_Provider = Annotated[
    str | None,
    typer.Option(
        help="oauth, coding-plan, token-plan, dashscope, openrouter, modelscope, vllm, sglang, "
        "ollama, llama.cpp, generic or web-chat. None: the key tells, or you are asked.",
        show_default=False,
    ),
]
_Name = Annotated[
    str | None,
    typer.Option(
        help="The account's name; of one that there is, to log in again.", show_default=False
    ),
]
_BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="The only address to try.", show_default=False)
]
_KeyFile = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        help="Read the key from this file, or from standard input with -.",
        show_default=False,
    ),
]
_NoBrowser = Annotated[
    bool, typer.Option("--no-browser", help="Print the address and open nothing.")
]
_Import = Annotated[
    bool, typer.Option("--import", help="Copy the logins of qwen-code and CLIProxyAPI.")
]
_Wire = Annotated[
    str | None,
    typer.Option(
        "--wire",
        help="What the host is asked by: chat (the default) or responses, where it has both.",
        show_default=False,
    ),
]
_Force = Annotated[bool, typer.Option("--force", help="Store a key that nobody accepted.")]


def login(
    context: typer.Context,
    provider: _Provider = None,
    name: _Name = None,
    base_url: _BaseUrl = None,
    key_file: _KeyFile = None,
    no_browser: _NoBrowser = False,
    import_them: _Import = False,
    force: _Force = False,
    wire: _Wire = None,
    as_json: AsJson = False,
) -> None:
    """Add an account: an API key, or a Qwen login in the browser.

    The key is asked for without showing it, and tried at the hosts of its own vendor alone.
    """
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        if import_them:
            import_logins(outside, speech, ())
            return
        name = None if name is None else checked_name(name)
        if provider is not None and provider.strip().lower() == web_chat.PROVIDER:
            web_chat.log_in_to_web_chat(
                outside, speech, name=name, base_url=base_url, key_file=key_file, force=force
            )
            return
        known = None if provider is None else provider_named(provider)
        if provider is not None and known is None:
            known_ones = ", ".join(("oauth", *outside.vendors, web_chat.PROVIDER))
            raise Complaint(f"There is no provider {provider!r}; there are: {known_ones}.")
        if known == "oauth":
            if base_url or key_file or force or wire:
                raise Complaint("--base-url, --key-file, --force and --wire are for keys.")
            log_in_with_browser(outside, speech, name, open_browser=not no_browser)
            return
        log_in_with_key(
            outside,
            speech,
            KeyLogin(
                vendor=outside.vendors[known] if known else None,
                name=name,
                base_url=base_url,
                key_file=key_file,
                force=force,
                wire=_known_wire(wire),
            ),
        )


def _known_wire(name: str | None) -> Wire | None:
    match name:
        case None | "chat" | "responses":
            return name
    raise Complaint(f"--wire is chat or responses, not {name!r}.")
