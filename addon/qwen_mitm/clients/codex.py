"""Codex's configuration: the stanza to keep, and the arguments of one run. Pure.

``-c key=value`` weighs more than ~/.codex/config.toml, and what the person says so after ours more
than ours.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import JsonValue

from .models import EFFORTS, Model
from .provider import LOCAL_KEY_VARIABLE, NAME, TITLE, Provider

type Document = dict[str, JsonValue]


def stanza(provider: Provider) -> str:
    """What belongs into config.toml."""
    top = "\n".join(f"{key} = {_toml(value)}" for key, value in _top(provider).items())
    table = "\n".join(f"{key} = {_toml(value)}" for key, value in _provider(provider).items())
    return f"{top}\n\n[model_providers.{NAME}]\n{table}\n"


def arguments(
    provider: Provider, own: str, *, chosen: bool, catalogue: str | None = None
) -> list[str]:
    """What goes in front of Codex's other arguments.

    ``own`` is the person's config.toml: a provider of theirs with our name, or at the host that
    the proxy claims, is left as it is. ``chosen``: the person named the model for this run.
    ``catalogue`` is the path of the file with what :func:`catalogue_of` made.
    """
    config = _parsed(own)
    theirs = _providers_of(config, provider.base_url)
    if not chosen and config.get("model") and config.get("model_provider") in theirs:
        return []
    settings: dict[str, str] = {key: _toml(value) for key, value in _top(provider).items()}
    if NAME not in theirs:
        pairs = ", ".join(f"{key} = {_toml(value)}" for key, value in _provider(provider).items())
        settings[f"model_providers.{NAME}"] = f"{{ {pairs} }}"
    if catalogue is not None and "model_catalog_json" not in config:
        settings["model_catalog_json"] = _toml(catalogue)
    return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]


def catalogue_of(provider: Provider, bundled: str) -> str | None:
    """The catalogue of our models, from that of `codex debug models`; None: it has no use for us.

    The file's ``base_instructions`` are all of the agent's instructions, and only Codex has them.
    """
    try:
        listed = json.loads(bundled)["models"]
        instructions = next(
            one["base_instructions"] for one in listed if not one["use_responses_lite"]
        )
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    if not isinstance(instructions, str) or not instructions:
        return None
    # It is another model that reads this.
    instructions = instructions.replace("a coding agent based on GPT-5", "a coding agent", 1)
    entries: list[JsonValue] = [
        _entry(model, instructions, priority) for priority, model in enumerate(provider.models, 1)
    ]
    return json.dumps({"models": entries})


def _top(provider: Provider) -> Document:
    model = provider.default
    top: Document = {"model": model.name, "model_provider": NAME}
    if model.context:
        top["model_context_window"] = model.context
    if model.thinks:
        top["model_reasoning_effort"] = "medium"
        top["model_reasoning_summary"] = "auto"
    # OpenAI's own search; nobody else has it.
    return {**top, "web_search": "disabled"}


def _provider(provider: Provider) -> Document:
    table: Document = {"name": TITLE, "base_url": provider.base_url, "wire_api": "responses"}
    return table | ({"env_key": LOCAL_KEY_VARIABLE} if provider.has_local_key else {})


def _entry(model: Model, instructions: str, priority: int) -> Document:
    levels: list[JsonValue] = [{"effort": effort, "description": effort} for effort in EFFORTS]
    entry: Document = {
        "slug": model.name,
        "display_name": model.title,
        "supported_reasoning_levels": levels if model.thinks else [],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "support_verbosity": False,
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "experimental_supported_tools": [],
        "apply_patch_tool_type": "freeform",
        "base_instructions": instructions,
        "input_modalities": ["text", "image"] if model.sees else ["text"],
    }
    if model.thinks:
        entry |= {"default_reasoning_level": "medium", "default_reasoning_summary": "auto"}
    if model.context:
        entry |= {"context_window": model.context, "max_context_window": model.context}
    return entry


def _parsed(own: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(own)
    except tomllib.TOMLDecodeError:
        # Codex complains of it itself.
        return {}


def _providers_of(config: Mapping[str, object], base_url: str) -> set[str]:
    """Their names: ours, and those at the host of the base URL."""
    listed = config.get("model_providers")
    host = urlsplit(base_url).netloc
    found = set()
    for name, settings in listed.items() if isinstance(listed, dict) else ():
        url = settings.get("base_url") if isinstance(settings, dict) else None
        if name == NAME or (isinstance(url, str) and urlsplit(url).netloc == host):
            found.add(name)
    return found


def _toml(value: JsonValue) -> str:
    """Strings, numbers and booleans are written alike in JSON and TOML."""
    return json.dumps(value)
