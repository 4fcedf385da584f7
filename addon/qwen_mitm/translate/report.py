"""What became of a request's features that the upstream cannot take as they are (§1, rule 2)."""

from __future__ import annotations

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]|[,;]")


class Report:
    """Losses in the order they were found, each once."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], None] = {}

    @property
    def entries(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a code such as ``dropped_tool`` and the JSON type or field."""
        return tuple(self._entries)

    def add(self, code: str, what: str) -> None:
        self._entries[code, what] = None

    def header(self) -> str:
        """The value of ``x-bridge-warnings``: ASCII, one line; "" when nothing was lost."""
        return ", ".join(f"{code}; {_UNPRINTABLE.sub('?', what)}" for code, what in self._entries)
