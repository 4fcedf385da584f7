"""Which client a command line starts, also through a package runner. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

type Client = Literal["opencode", "codex"]

_PROGRAMS: Final[dict[str, Client]] = {
    "opencode": "opencode",
    "opencode-ai": "opencode",
    "codex": "codex",
    "@openai/codex": "codex",
}
#: Words in front of the name of a package; each may be followed by options.
_RUNNERS: Final = (
    ("npx",),
    ("npm", "exec"),
    ("pnpm", "dlx"),
    ("pnpm", "exec"),
    ("pnpx",),
    ("yarn", "dlx"),
    ("yarn",),
    ("bunx",),
    ("bun", "x"),
)
_TAKE_A_VALUE: Final = frozenset({"-p", "--package"})
_EXTENSION = re.compile(r"\.(?:exe|cmd|bat|ps1)$", re.IGNORECASE)
_VERSION = re.compile(r"(?<=.)@[^@/]*$")


@dataclass(frozen=True, slots=True)
class Start:
    client: Client
    at: int
    """The index of the first word that is the client's own."""


def recognise(command: Sequence[str]) -> Start | None:
    """None: a program that only gets the environment."""
    if not command:
        return None
    first = _base_name(command[0])
    if (client := _PROGRAMS.get(first)) is not None:
        return Start(client, 1)
    for runner in _RUNNERS:
        if (first, *command[1 : len(runner)]) == runner:
            return _packaged(command, len(runner))
    return None


def _packaged(command: Sequence[str], position: int) -> Start | None:
    while position < len(command) and command[position].startswith("-"):
        position += 2 if command[position] in _TAKE_A_VALUE else 1
    if position >= len(command):
        return None
    client = _PROGRAMS.get(_VERSION.sub("", command[position]))
    return None if client is None else Start(client, position + 1)


def _base_name(word: str) -> str:
    return _EXTENSION.sub("", re.split(r"[/\\]", word)[-1]).lower()
