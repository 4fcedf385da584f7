"""Versions and settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .check import Check, fault, ok, warning
from .facts import Facts

LOWEST_PYTHON, NEXT_PYTHON = (3, 12), (3, 15)
LOWEST_MITMPROXY, NEXT_MITMPROXY = (12, 0, 1), (12, 4)
_TESTED = "12.0.1 to 12.3.1"


def checks(facts: Facts) -> Iterator[Check]:
    yield _python(facts)
    yield _mitmproxy(facts)
    yield _settings(facts)
    for unknown in facts.unknown:
        advice = f"Did you mean {unknown.nearest}?" if unknown.nearest else "Remove it."
        yield warning(
            "settings.unknown", f"{unknown.name} in {unknown.where} means nothing here.", advice
        )


def _python(facts: Facts) -> Check:
    version = facts.installation.python
    words = f"Python {'.'.join(map(str, version))}"
    if version < LOWEST_PYTHON:
        return fault("python", f"{words} is too old.", "Install Python 3.12 or newer.")
    if version >= NEXT_PYTHON:
        advice = "If something does not work, use Python 3.12 to 3.14."
        return warning("python", f"{words} is newer than those that were tested.", advice)
    return ok("python", f"{words}.")


def _mitmproxy(facts: Facts) -> Check:
    here = facts.installation
    words = f"mitmproxy {here.mitmproxy}"
    if here.missing:
        return fault(
            "mitmproxy",
            f"{words} lacks what qwen-mitm needs of it: {', '.join(here.missing)}.",
            f"Install mitmproxy {_TESTED} (scripts/setup does).",
        )
    if not LOWEST_MITMPROXY <= numbers(here.mitmproxy) < NEXT_MITMPROXY:
        return warning(
            "mitmproxy",
            f"{words} is not one of those that were tested, {_TESTED}.",
            "If something does not work, install one of these.",
        )
    return ok("mitmproxy", f"{words}, qwen-mitm {here.version}.")


def _settings(facts: Facts) -> Check:
    if facts.settings_problem:
        return fault("settings", facts.settings_problem, "Correct it; the proxy does not start so.")
    settings = facts.settings
    if settings and settings.allow_remote and not settings.local_key.get_secret_value():
        return fault(
            "settings",
            "QWEN_ALLOW_REMOTE is set without QWEN_LOCAL_KEY: the proxy does not start so.",
            "Set QWEN_LOCAL_KEY, and send it as the API key of every client.",
        )
    return ok("settings", "The settings of the environment and of qwen.json can be used.")


def numbers(version: str) -> tuple[int, ...]:
    """``1.18.33`` as numbers; what follows them (``-beta``) does not count."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
