"""A command line and its environment, made ready for one run without a change of any file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwen_mitm.clients import codex, opencode
from qwen_mitm.clients.environment import Trust, Way, for_sdks, through
from qwen_mitm.clients.models import model_named
from qwen_mitm.clients.provider import Provider
from qwen_mitm.clients.recognise import Start, recognise

from .offer import UNKNOWN_MODELS
from .speech import Complaint

_CATALOGUE_TIMEOUT_S = 10.0
_GLOBAL_NAMES = ("config.json", "opencode.json", "opencode.jsonc")
_PROJECT_NAMES = ("opencode.json", "opencode.jsonc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    words: tuple[str, ...]
    env: dict[str, str]
    """The whole environment."""
    changed: dict[str, str]
    """What of it is ours."""


def set_up(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    way: Way,
    trust: Trust,
    provider: Provider,
    chosen: bool,
    folder: Path,
) -> Setup:
    """``chosen``: the person named the model. ``folder`` is the run's, for files it needs.

    Raises:
        Complaint: the client needs a model, and nobody knows one.
    """
    changed = through(env, way, trust)
    words = list(command)
    start = recognise(command)
    if start is None:
        changed |= for_sdks(env, way)
    elif start.client == "opencode":
        own = list(_opencode_documents(env, Path.cwd()))
        given = opencode.for_one_run(_named(provider), own, chosen=chosen)
        _need_models(provider, opencode.has_our_model(given))
        inline = opencode.parse(env.get(opencode.VARIABLE, ""))
        changed[opencode.VARIABLE] = json.dumps(opencode.merged(inline, given))
    else:
        words[start.at : start.at] = _codex_arguments(command, start, env, provider, chosen, folder)
    return Setup(words=tuple(words), env={**env, **changed}, changed=changed)


def _named(provider: Provider) -> Provider:
    """One that has a default, to find out whether that is needed."""
    return provider if provider.models else replace(provider, models=(model_named(""),))


def _need_models(provider: Provider, is_needed: bool) -> None:
    if is_needed and not provider.models:
        raise Complaint(UNKNOWN_MODELS)


def _opencode_documents(env: Mapping[str, str], folder: Path) -> Iterator[opencode.Document]:
    """The person's, the weightiest last: https://opencode.ai/docs/config/#precedence-order."""
    for path in _opencode_files(env, folder):
        try:
            yield opencode.parse(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    yield opencode.parse(env.get(opencode.VARIABLE, ""))


def _opencode_files(env: Mapping[str, str], folder: Path) -> Iterator[Path]:
    config = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "opencode"
    yield from (config / name for name in _GLOBAL_NAMES)
    if named := env.get("OPENCODE_CONFIG"):
        yield Path(named)
    projects = _up_to_the_repository(folder)
    yield from (project / name for project in reversed(projects) for name in _PROJECT_NAMES)
    hidden = [project / ".opencode" for project in reversed(projects)]
    if extra := env.get("OPENCODE_CONFIG_DIR"):
        hidden.append(Path(extra))
    yield from (one / name for one in hidden for name in _PROJECT_NAMES)


def _up_to_the_repository(folder: Path) -> list[Path]:
    found = []
    for one in (folder, *folder.parents):
        found.append(one)
        if (one / ".git").exists():
            break
    return found


def _codex_arguments(
    command: Sequence[str],
    start: Start,
    env: Mapping[str, str],
    provider: Provider,
    chosen: bool,
    folder: Path,
) -> list[str]:
    home = Path(env.get("CODEX_HOME") or Path.home() / ".codex")
    try:
        own = (home / "config.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        own = ""
    if not codex.arguments(_named(provider), own, chosen=chosen):
        return []
    _need_models(provider, True)
    path = folder / "codex-models.json"
    bundled = _codex_models(command[: start.at], env)
    catalogue = codex.catalogue_of(provider, bundled) if bundled else None
    if catalogue is not None:
        path.write_text(catalogue, "utf-8")
    named = None if catalogue is None else str(path)
    return codex.arguments(provider, own, chosen=chosen, catalogue=named)


def _codex_models(words: Sequence[str], env: Mapping[str, str]) -> str:
    """Codex's own catalogue; empty when this version does not tell."""
    try:
        done = subprocess.run(
            [*words, "debug", "models", "--bundled"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_CATALOGUE_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")
