"""Whether a place in a Markdown text is in a code block or a code span. Pure."""

from __future__ import annotations

import re
from typing import Final

#: Longer than any beginning of a fence with the name of its language.
_HEAD: Final = 128
# Also in the item of a list, whose text is further in.
_FENCE: Final = re.compile(r"\s*(`{3,}|~{3,})(.*)")


class CodeQuotes:
    """Reads a text as it arrives; ``is_open`` tells of the place behind what it has read."""

    def __init__(self) -> None:
        self._fence: str | None = None
        self._head = ""
        self._ticks = 0

    @property
    def is_open(self) -> bool:
        """A block is open, or the line has a span without an end."""
        return self._fence is not None or self._ticks % 2 == 1

    def feed(self, text: str) -> None:
        *lines, last = text.split("\n")
        for line in lines:
            self._add(line)
            self._end_line()
        self._add(last)

    def _add(self, text: str) -> None:
        self._head += text[: _HEAD - len(self._head)]
        self._ticks += text.count("`")

    def _end_line(self) -> None:
        found = _FENCE.fullmatch(self._head.rstrip())
        self._head, self._ticks = "", 0
        if found is None:
            return
        marks, rest = found.groups()
        if self._fence is None:
            # With a backtick behind it, it is a span.
            self._fence = None if "`" in rest and marks[0] == "`" else marks
        elif not rest and marks.startswith(self._fence):
            self._fence = None
