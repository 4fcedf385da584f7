"""The events of an answer in the order they went out, and when. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from qwen_mitm.inspection.answer import Event
from qwen_mitm.inspection.wording import cut_string, read_json

_DELTA: Final = ".delta"
_LONGEST_TEXT: Final = 50
MOST_ROWS: Final = 400


def timeline(events: Iterable[Event], times: Sequence[tuple[int, float]]) -> str:
    """A row for each event; deltas that follow each other are one row.

    ``times`` are the ends of what was sent, and when it was, in seconds.
    """
    ends = [end for end, _ in times]

    def at(event: Event) -> float | None:
        place = bisect_left(ends, event.end)
        return times[place][1] if place < len(times) else None

    rows = []
    for (kind, is_delta), group in groupby(events, lambda e: (e.type, e.type.endswith(_DELTA))):
        members = list(group)
        if is_delta:
            rows.append(_row(at(members[0]), at(members[-1]), kind, _deltas(members)))
        else:
            rows += [_row(at(one), None, kind, _subject(one)) for one in members]
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        notice = f"[… {len(rows) - 2 * half:,} rows left out here …]"
        rows = [*rows[:half], notice, *rows[-half:]]
    return "\n".join(rows)


def _row(first: float | None, last: float | None, kind: str, subject: str) -> str:
    start = "        " if first is None else f"{first:7.3f}s"
    stop = "          " if last is None or last == first else f"-{last:8.3f}s"
    return f"{start}{stop}  {kind.removeprefix('response.'):<34} {subject}".rstrip()


def _deltas(events: list[Event]) -> str:
    text = ""
    for event in events:
        match read_json(event.data):
            case {"delta": str(delta)}:
                text += delta
        if len(text) > _LONGEST_TEXT:
            break
    return f"{len(events)}x  {_quoted(text)}"


def _subject(event: Event) -> str:
    match read_json(event.data):
        case {"item": {"type": str(kind), **rest}}:
            return cut_string(" ".join(filter(None, (kind, str(rest.get("name") or "")))))
        case {"response": {"status": str(status)}}:
            return status
        case {"text": str(text)}:
            return _quoted(text)
    return ""


def _quoted(text: str) -> str:
    line = " ".join(text[: _LONGEST_TEXT * 2].split())
    return f"“{line[:_LONGEST_TEXT]}…”" if len(line) > _LONGEST_TEXT else f"“{line}”"
