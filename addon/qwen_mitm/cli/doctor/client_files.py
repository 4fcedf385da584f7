"""What the configuration files of OpenCode and Codex say of providers."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .facts import Stanza

type Found = tuple[tuple[Stanza, ...], tuple[str, ...]]


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Options(_Loose):
    baseURL: str = ""  # OpenCode's name


class _OpenCodeProvider(_Loose):
    npm: str = ""
    options: _Options = _Options()


class _OpenCodeFile(_Loose):
    provider: dict[str, _OpenCodeProvider] = {}


class _CodexProvider(_Loose):
    base_url: str = ""
    wire_api: str = ""
    env_key: str = ""


class _CodexFile(_Loose):
    model_provider: str = "openai"
    openai_base_url: str = ""
    model_providers: dict[str, _CodexProvider] = {}


# Strings first, so that nothing inside them is taken for a comment.
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


def plain_json(text: str) -> str:
    """JSON with comments and commas before a bracket (JSONC) as JSON."""
    without = _COMMENT.sub(lambda match: match[1] or " ", text)
    return _LAST_COMMA.sub(lambda match: match[1] or "", without)


def opencode_stanzas(env: Mapping[str, str], home: Path, project: Path) -> Found:
    return _collected(_opencode_files(env, home, project), _read_opencode)


def codex_stanzas(env: Mapping[str, str], home: Path) -> Found:
    folder = Path(env.get("CODEX_HOME") or home / ".codex")
    return _collected([folder / "config.toml"], lambda path: _read_codex(path, env))


def _opencode_files(env: Mapping[str, str], home: Path, project: Path) -> Iterator[Path]:
    folder = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "opencode"
    names = ("opencode.json", "opencode.jsonc")
    yield from (folder / name for name in ("config.json", *names))
    if named := env.get("OPENCODE_CONFIG"):
        yield Path(named)
    for parent in (project, *project.parents):
        yield from (parent / name for name in names)
        if (parent / ".git").exists():
            break


def _collected(paths: Iterable[Path], read: Callable[[Path], list[Stanza]]) -> Found:
    stanzas: list[Stanza] = []
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            stanzas += read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{path} cannot be read: {_reason(error)}.")
    return tuple(stanzas), tuple(problems)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValidationError):
        # Its own words quote the values, and some of them are keys.
        return "its keys are not what they should be"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read_opencode(path: Path) -> list[Stanza]:
    document = json.loads(plain_json(path.read_text("utf-8")))
    file = _OpenCodeFile.model_validate(document)
    return [
        Stanza(str(path), name, provider.options.baseURL, provider.npm)
        for name, provider in file.provider.items()
    ]


def _read_codex(path: Path, env: Mapping[str, str]) -> list[Stanza]:
    file = _CodexFile.model_validate(tomllib.loads(path.read_text("utf-8")))
    stanzas = [
        Stanza(
            str(path),
            name,
            provider.base_url,
            provider.wire_api,
            file.model_provider == name,
            "" if env.get(provider.env_key or "PATH") else provider.env_key,
        )
        for name, provider in file.model_providers.items()
    ]
    if file.openai_base_url:
        is_chosen = file.model_provider == "openai"
        stanzas.append(Stanza(str(path), "openai", file.openai_base_url, "", is_chosen))
    return stanzas
