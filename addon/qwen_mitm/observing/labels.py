"""Values of labels. Clients choose the names of models, so there are any number of them. Pure."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
_LONGEST: Final = 80


class Labels:
    """The first ``most`` different names that prove themselves; all others are :data:`OTHER`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str, *, proven: bool = True) -> str:
        """``proven``: an upstream knows the name. One that none does must not take a place."""
        if name in self._known:
            return name
        if not proven or len(name) > _LONGEST or len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name
