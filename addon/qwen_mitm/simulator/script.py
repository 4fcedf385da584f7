"""Queued behaviours: what the next requests get, whatever model they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .steps import Performance, Send


@dataclass(slots=True)
class Line:
    """One line of the script.

    ``behaviour`` is written as in a model name without ``sim-``. ``status``, ``headers`` and
    ``body``, or ``frames`` (raw pieces of an event stream), spell out an answer instead. A line
    with a ``bearer`` is for requests with that bearer alone. It serves ``times`` requests, None
    for every one from now on.
    """

    behaviour: str = ""
    bearer: str | None = None
    times: int | None = 1
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes | None = None
    frames: Iterable[str | bytes] | None = None

    def performance(self) -> Performance | None:
        """The answer that is spelt out, if one is."""
        if self.frames is not None:
            steps = [Send(_bytes(piece), 1) for piece in self.frames]
            default = "text/event-stream;charset=UTF-8"
            return Performance(self.status, self._headers(default), steps)
        if self.body is not None:
            data = _bytes(self.body)
            headers = self._headers("application/json")
            return Performance(self.status, headers, [Send(data, 1)], content_length=len(data))
        return None

    def _headers(self, content_type: str) -> list[tuple[str, str]]:
        given = {name.lower(): value for name, value in self.headers.items()}
        return list(({"content-type": content_type} | given).items())


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def line(written: str | Mapping[str, Any] | Line) -> Line:
    """A behaviour's name, or the fields of a Line as JSON; raises TypeError for others."""
    if isinstance(written, Line):
        return written
    return Line(behaviour=written) if isinstance(written, str) else Line(**written)


class Script:
    def __init__(self) -> None:
        self._lines: list[Line] = []

    def add(self, lines: Iterable[str | Mapping[str, Any] | Line]) -> None:
        self._lines += [line(written) for written in lines]

    def next(self, bearer: str) -> Line | None:
        """The first line for this bearer, taken out once it has served its times."""
        for number, wanted in enumerate(self._lines):
            if wanted.bearer in (None, bearer):
                if wanted.times is not None:
                    wanted.times -= 1
                    if wanted.times <= 0:
                        del self._lines[number]
                return wanted
        return None

    def clear(self) -> None:
        self._lines.clear()
