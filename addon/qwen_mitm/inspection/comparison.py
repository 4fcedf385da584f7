"""What the translation of today does otherwise than that of a turn that is over. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from itertools import islice
from typing import Final

from pydantic import JsonValue

from qwen_mitm.inspection.answer import events
from qwen_mitm.inspection.retranslation import Retranslation
from qwen_mitm.inspection.wording import pretty, read_json

MOST_LINES: Final = 400
#: Their values are new each time, or hang on the store.
_NEW_EACH_TIME: Final = frozenset(
    {
        "call_id",
        "completed_at",
        "created_at",
        "encrypted_content",
        "id",
        "item_id",
        "obfuscation",
        "previous_response_id",
    }
)


def differences(body: bytes, answer: bytes, today: Retranslation) -> list[str]:
    """Lines for a person. ``body`` is what went upstream, ``answer`` what the client got."""
    told = [read_json(event.data) for event in events(answer)]
    now: list[JsonValue] = [*today.events]
    if not told:
        # It was not streamed: the last event has all of it.
        told = [read_json(answer)]
        last: JsonValue = today.events[-1].get("response") if today.events else None
        now = [last]
    return [
        *_compared("request", [read_json(body)], [today.body]),
        *_compared("answer", told, now),
    ]


def _compared(what: str, then: list[JsonValue], now: list[JsonValue]) -> list[str]:
    before, after = (_lines(map(_lasting, each)) for each in (then, now))
    if before == after:
        return [f"{what}: the same as then"]
    changes = difflib.unified_diff(before, after, "then", "now", lineterm="", n=2)
    return [f"{what}: different", *islice(changes, MOST_LINES)]


def _lines(values: Iterable[JsonValue]) -> list[str]:
    return [line for value in values for line in pretty(_sorted(value)).splitlines()]


def _sorted(value: JsonValue) -> JsonValue:
    ordered: JsonValue = json.loads(json.dumps(value, sort_keys=True))
    return ordered


def _lasting(value: JsonValue) -> JsonValue:
    match value:
        case list():
            return [_lasting(each) for each in value]
        case dict():
            return {
                name: "…" if name in _NEW_EACH_TIME else _lasting(each)
                for name, each in value.items()
            }
    return value
