"""`qwen-mitm config`: the stanza of a client's configuration, to be kept."""

from __future__ import annotations

import enum
import json
import os
from typing import Annotated

import typer

from qwen_mitm.clients import codex, opencode
from qwen_mitm.clients.models import model_named

from .offer import UNKNOWN_MODELS, accounts_in_use, claimed_base_url, offered, provider_of
from .outside import Outside
from .speech import Complaint, Speech


class Client(enum.StrEnum):
    opencode = "opencode"
    codex = "codex"


def show_stanza(
    context: typer.Context,
    client: Annotated[Client, typer.Argument(help="Whose configuration.", show_default=False)],
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="This model; repeatable, the first is the default."),
    ] = None,
) -> None:
    """Print what belongs into opencode.json or Codex's config.toml to use Qwen."""
    outside, speech = Outside.of(context), Speech(False)
    with speech.reporting():
        settings = outside.settings()
        if models:
            told = tuple(model_named(name) for name in dict.fromkeys(models))
        else:
            accounts = accounts_in_use(settings, outside.store(), os.environ)
            told = offered(settings, accounts)
            if not told:
                raise Complaint(UNKNOWN_MODELS)
        provider = provider_of(settings, claimed_base_url(settings), told)
        if client is Client.opencode:
            typer.echo(json.dumps(opencode.stanza(provider), indent=2))
        else:
            typer.echo(codex.stanza(provider), nl=False)
