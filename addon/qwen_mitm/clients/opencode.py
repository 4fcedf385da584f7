"""OpenCode's configuration: the stanza to keep, and what is missing for one run. Pure.

OPENCODE_CONFIG_CONTENT is merged over all of the person's own files, so it must not have what they
have: https://opencode.ai/docs/config/#precedence-order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from pydantic import JsonValue

from .models import EFFORTS, Model
from .provider import ANY_KEY, LOCAL_KEY_VARIABLE, NAME, TITLE, Provider

VARIABLE: Final = "OPENCODE_CONFIG_CONTENT"
SCHEMA: Final = "https://opencode.ai/config.json"

type Document = dict[str, JsonValue]

# A string, which may look like a comment; or a comment; or a comma with nothing behind it.
_JSONC = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)


def stanza(provider: Provider) -> Document:
    """What belongs into opencode.json."""
    default = f"{NAME}/{provider.default.name}"
    return {
        "$schema": SCHEMA,
        "provider": {NAME: _provider(provider)},
        "model": default,
        "small_model": default,
    }


def for_one_run(provider: Provider, own: Sequence[Document], *, chosen: bool) -> Document:
    """What the person's own documents lack; ``own`` in OpenCode's order, the weightiest last.

    ``chosen``: the person named the model for this run.
    """
    theirs: Document = {}
    for document in own:
        theirs = merged(theirs, document)
    named = [NAME] if NAME in _providers(theirs) else []
    usable = [] if chosen else [*named, *_at(theirs, provider.base_url)]
    ours = f"{NAME}/{provider.default.name}"
    given: Document = {}
    # Theirs may be another vendor's, which is not what this run is for.
    if not _is_at(theirs.get("model"), usable):
        given["model"] = ours
    if not _is_at(theirs.get("small_model"), usable):
        given["small_model"] = given.get("model") or theirs["model"]
    given |= _agents(theirs, usable, ours)
    if not named:
        given["provider"] = {NAME: _provider(provider)}
    elif has_our_model(given):
        given |= _missing_model(theirs, provider.default)
    return given | _let_in(theirs)


def has_our_model(given: Document) -> bool:
    """Whether what ``for_one_run`` gave names the provider's default."""
    return bool(given.keys() & {"model", "agent", "mode"})


def _is_at(model: JsonValue, providers: Sequence[str]) -> bool:
    return isinstance(model, str) and model.partition("/")[0] in providers


def _agents(theirs: Document, usable: Sequence[str], ours: str) -> Document:
    """Agents may have models of their own; ``mode`` is their older name."""
    given: Document = {}
    for key in ("agent", "mode"):
        listed = theirs.get(key)
        pinned: Document = {
            name: {"model": ours}
            for name, agent in (listed.items() if isinstance(listed, dict) else ())
            if isinstance(agent, dict) and agent.get("model")
            if not _is_at(agent["model"], usable)
        }
        if pinned:
            given[key] = pinned
    return given


def _missing_model(theirs: Document, model: Model) -> Document:
    """For a provider of the person's own that does not list it."""
    settings = _providers(theirs)[NAME]
    listed = settings.get("models") if isinstance(settings, dict) else None
    if isinstance(listed, dict) and model.name in listed:
        return {}
    return {"provider": {NAME: {"models": {model.name: _model(model)}}}}


def _let_in(theirs: Document) -> Document:
    """What keeps a provider out, without that; lists are replaced, not merged."""
    given: Document = {}
    enabled, disabled = theirs.get("enabled_providers"), theirs.get("disabled_providers")
    if isinstance(enabled, list) and NAME not in enabled:
        given["enabled_providers"] = [*enabled, NAME]
    if isinstance(disabled, list) and NAME in disabled:
        given["disabled_providers"] = [name for name in disabled if name != NAME]
    return given


def parse(text: str) -> Document:
    """An opencode.json or .jsonc; one that is neither is OpenCode's to complain of."""
    try:
        read = json.loads(_JSONC.sub(lambda m: m[0] if m[0][0] == '"' else " ", text))
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def merged(below: Mapping[str, JsonValue], above: Mapping[str, JsonValue]) -> Document:
    """As OpenCode does it: ``above`` wins, objects are merged."""
    result = dict(below)
    for key, value in above.items():
        mine = result.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            result[key] = merged(mine, value)
        else:
            result[key] = value
    return result


def _provider(provider: Provider) -> Document:
    key = f"{{env:{LOCAL_KEY_VARIABLE}}}" if provider.has_local_key else ANY_KEY
    return {
        "npm": "@ai-sdk/openai",
        "name": TITLE,
        "options": {"baseURL": provider.base_url, "apiKey": key},
        "models": {model.name: _model(model) for model in provider.models},
    }


def _model(model: Model) -> Document:
    document: Document = {"name": model.title, "tool_call": True}
    if model.thinks:
        document["reasoning"] = True
        # It knows none for these models by itself.
        document["variants"] = {effort: {"reasoningEffort": effort} for effort in EFFORTS}
    if model.sees:
        document["attachment"] = True
        document["modalities"] = {"input": ["text", "image"], "output": ["text"]}
    if model.context:
        document["limit"] = {"context": model.context, "output": model.output}
    return document


def _providers(document: Document) -> Document:
    listed = document.get("provider")
    return listed if isinstance(listed, dict) else {}


def _at(document: Document, base_url: str) -> list[str]:
    """The person's providers at the host that the proxy claims, whatever they are called."""
    host = urlsplit(base_url).netloc
    found = []
    for name, settings in _providers(document).items():
        options = settings.get("options") if isinstance(settings, dict) else None
        url = options.get("baseURL") if isinstance(options, dict) else None
        if isinstance(url, str) and urlsplit(url).netloc == host:
            found.append(name)
    return found
