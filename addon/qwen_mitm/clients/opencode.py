"""OpenCode's configuration: the stanza to keep, and what is missing for one run. Pure.

OPENCODE_CONFIG_CONTENT is merged over all of the person's own files, so it must not have what they
have: https://opencode.ai/docs/config/#precedence-order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
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
    whole = stanza(provider)
    del whole["$schema"]
    named = _named_like_ours(own)
    if named:
        del whole["provider"]
    usable = [*named, *_at(own, provider.base_url)]
    for key in ("model", "small_model"):
        theirs = next((value for one in reversed(own) if (value := one.get(key))), None)
        # Theirs may be another vendor's, which is not what this run is for.
        if not chosen and isinstance(theirs, str) and theirs.partition("/")[0] in usable:
            del whole[key]
    return whole


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
        both = isinstance(mine, dict) and isinstance(value, dict)
        result[key] = merged(mine, value) if both else value  # type: ignore[arg-type]
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


def _providers(own: Iterable[Document]) -> Iterable[tuple[str, JsonValue]]:
    for document in own:
        listed = document.get("provider")
        if isinstance(listed, dict):
            yield from listed.items()


def _named_like_ours(own: Iterable[Document]) -> list[str]:
    return [NAME] if any(name == NAME for name, _ in _providers(own)) else []


def _at(own: Iterable[Document], base_url: str) -> list[str]:
    """The person's providers at the host that the proxy claims, whatever they are called."""
    host = urlsplit(base_url).netloc
    found = []
    for name, settings in _providers(own):
        options = settings.get("options") if isinstance(settings, dict) else None
        url = options.get("baseURL") if isinstance(options, dict) else None
        if isinstance(url, str) and urlsplit(url).netloc == host:
            found.append(name)
    return found
