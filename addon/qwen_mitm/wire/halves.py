"""Hosts that cut an escaped surrogate pair (an emoji as ``\\ud83d\\ude00``) between two deltas."""

from __future__ import annotations

import re
from typing import Final

_ENDS_IN_HALF: Final = re.compile(
    rb'"(content|reasoning_content|reasoning|refusal|arguments)"\s*:\s*"'
    rb'(?:[^"\\]|\\.)*?(\\ud[89ab][0-9a-f]{2})(?=")',
    re.IGNORECASE,
)
_OTHER_HALF: Final = re.compile(rb"\\ud[c-f][0-9a-f]{2}", re.IGNORECASE)
_NO_CHARACTER: Final = rb"\ufffd"


class CutPairs:
    """Takes the first half out of the event that it ends, and puts it into the next one."""

    def __init__(self) -> None:
        self.waiting = False
        """A half was taken out; ``join`` is to be asked of the next event."""
        self._half = b""
        self._goes_on = re.compile(b"")

    def cut(self, data: bytes) -> bytes:
        """The JSON of an event without the half at the end of its text, which is kept."""
        found = _ENDS_IN_HALF.search(data)
        if found is None:
            return data
        self.waiting = True
        self._half = found[2]
        self._goes_on = re.compile(rb'"%b"\s*:\s*"(?!")' % found[1])
        return data[: found.start(2)] + data[found.end(2) :]

    def join(self, data: bytes) -> bytes:
        """The JSON of the next event with the half where its text goes on, if it does."""
        found = self._goes_on.search(data)
        if found is None:
            return data
        self.waiting = False
        half = self._half if _OTHER_HALF.match(data, found.end()) else _NO_CHARACTER
        return data[: found.end()] + half + data[found.end() :]
