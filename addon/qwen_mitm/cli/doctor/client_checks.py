"""OpenCode and Codex: whether they are here and configured so that it works. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from qwen_mitm.settings import Origin

from .check import Check, fault, not_checked, ok, warning
from .facts import Client, Facts, Stanza
from .installation_checks import numbers
from .route_checks import claimed, points_here

#: The versions that the end-to-end tests run.
TESTED = {"opencode": "1.18.33", "codex": "0.169.0"}
_TITLES = {"opencode": "OpenCode", "codex": "Codex"}


def checks(facts: Facts) -> Iterator[Check]:
    for name, client in (("opencode", facts.opencode), ("codex", facts.codex)):
        yield _version(name, client)
        for problem in client.problems:
            yield fault(f"{name}.config", problem, "Mend it; the program does not start so.")
        if client.path is not None or client.stanzas:
            yield from _configuration(facts, name, client)


def _version(name: str, client: Client) -> Check:
    title, tested = _TITLES[name], TESTED[name]
    if client.path is None:
        return not_checked(name, f"{title} is not on the PATH.")
    if client.version is None:
        return warning(
            name,
            f"{client.path} does not tell its version.",
            f"Does {name} --version work? {tested} is known to.",
        )
    words = f"{title} {client.version}"
    if numbers(client.version) < numbers(tested):
        return warning(
            name, f"{words} is older than the tested {tested}.", f"Update {title} if it fails."
        )
    if numbers(client.version) > numbers(tested):
        return ok(name, f"{words}; {tested} is the one that was tested.")
    return ok(name, f"{words} is known to work.")


def _configuration(facts: Facts, name: str, client: Client) -> Iterator[Check]:
    check, title = f"{name}.config", _TITLES[name]
    ours = [stanza for stanza in client.stanzas if _leads_here(facts, stanza)]
    print_it = f"qwen-mitm run -- {name} needs none; qwen-mitm config {name} prints one to keep."
    if not ours:
        if client.stanzas or (points_here(facts) and not client.problems):
            yield warning(check, f"{title} has no provider that leads to the proxy.", print_it)
        elif not client.problems:
            yield not_checked(check, f"{title} has no provider of yours.", print_it)
        return
    for stanza in ours:
        yield _stanza(check, name, stanza)
    if not any(stanza.is_chosen for stanza in ours):
        names = ", ".join(stanza.provider for stanza in ours)
        advice = f'model_provider = "{ours[0].provider}" in {ours[0].file}'
        yield warning(check, f"{title} does not use its provider {names}.", advice)


def _stanza(check: str, name: str, stanza: Stanza) -> Check:
    where = f"provider {stanza.provider} in {stanza.file}"
    if name == "opencode" and stanza.speaks not in ("", "@ai-sdk/openai"):
        return fault(
            check,
            f"The {where} has npm {stanza.speaks}, which does not speak Responses.",
            '"npm": "@ai-sdk/openai"',
        )
    if name == "codex" and stanza.speaks not in ("", "responses"):
        return fault(
            check, f'The {where} has wire_api "{stanza.speaks}".', 'wire_api = "responses"'
        )
    if stanza.key_variable:
        return warning(
            check,
            f"The {where} takes its key from {stanza.key_variable}, which is not set here.",
            f"export {stanza.key_variable}=anything; the real keys are those of the accounts.",
        )
    return ok(check, f"The {where} leads to the proxy and speaks Responses.")


def _leads_here(facts: Facts, stanza: Stanza) -> bool:
    try:
        parts = urlsplit(stanza.base_url)
        origin = Origin.parse(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        return False
    here = Origin("http", facts.proxy.host, facts.proxy.port)
    local = Origin("http", "localhost", facts.proxy.port)
    return origin in (*claimed(facts), here, local)
