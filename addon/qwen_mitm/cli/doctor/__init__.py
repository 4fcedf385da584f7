"""`qwen-mitm doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

import typer

from qwen_mitm import __version__
from qwen_mitm.admission import is_loopback
from qwen_mitm.cli.outside import Outside
from qwen_mitm.cli.speech import FAILED, AsJson, Complaint, Speech
from qwen_mitm.proxy_variables import host_and_port, variable

from .connections import Place
from .examination import examine
from .gathering import gather
from .report import lines, summary

DEFAULT_PORT = 8080


def doctor(
    context: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=1, max=65535, help="The proxy's port on this machine.", show_default=False
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", help="Or its address: http://HOST:PORT.", show_default=False),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Ask with each account for one token of an answer."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check proxy, certificates, accounts and programs, and say what to do.

    The status is 1 when something does not work; warnings do not count.
    """
    outside, speech = Outside.of(context), Speech(as_json)
    with speech.reporting():
        if port is not None and proxy is not None:
            raise Complaint("Say --port or --proxy, not both.")
        place = _place(port, proxy)
        checks = examine(gather(outside, speech, place, probe=probe))
        failed = any(check.status == "fault" for check in checks)
        for line in lines(checks):
            speech.say(line)
        speech.say(summary(checks))
        speech.answer(
            {
                "ok": not failed,
                "version": __version__,
                "proxy": f"{place.host}:{place.port}",
                "checks": [check.document() for check in checks],
            }
        )
    if failed:
        raise typer.Exit(FAILED)


def _place(port: int | None, proxy: str | None) -> Place:
    """What was said; else what HTTPS_PROXY names on this machine; else the usual one."""
    if proxy is not None:
        return Place.of(proxy)
    if port is not None:
        return Place.of(f"http://127.0.0.1:{port}")
    named = variable(os.environ, "HTTPS_PROXY")
    found = host_and_port(named) if named else None
    if found and is_loopback(found[0]):
        return Place.of(named)
    return replace(Place.of(f"http://127.0.0.1:{DEFAULT_PORT}"), is_named=False)
