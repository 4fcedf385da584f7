"""How texts, JSON and encoded files are written for a person: whole where short, cut where not.

Pure. What is cut says so; the raw message has it all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

#: Characters of one text, and of one string in a form.
LONGEST_TEXT: Final = 6_000
LONGEST_STRING: Final = 200
WIDTH: Final = 76
"""What half a window of mitmweb shows of a line."""
_KILO: Final = 1_000


def size(count: int) -> str:
    """``812 bytes``, ``41.2 kB``, ``3.4 MB``."""
    if count < _KILO:
        return f"{count} bytes"
    if count < _KILO * _KILO:
        return f"{count / _KILO:.1f} kB"
    return f"{count / _KILO / _KILO:.1f} MB"


def heading(title: str) -> str:
    return f"━━ {title} {'━' * max(3, WIDTH - len(title) - 4)}"


def rule(title: str) -> str:
    return f"── {title} {'─' * max(3, WIDTH - len(title) - 4)}"


def listed(words: Iterable[str], indent: str = "") -> str:
    """``a · b · c``, in lines of the width of a page."""
    lines: list[str] = []
    for word in filter(None, words):
        if lines and len(lines[-1]) + len(word) + 3 <= WIDTH:
            lines[-1] += f" · {word}"
        else:
            lines.append(f"{indent}{word}")
    return "\n".join(lines)


def indented(text: str, by: str = "  ") -> str:
    return "\n".join(f"{by}{line}" if line else "" for line in text.split("\n"))


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Beginning and end of a long text."""
    if len(text) <= longest:
        return text
    head, tail = longest * 3 // 4, longest // 4
    left_out = len(text) - head - tail
    return f"{text[:head]}\n[… {left_out:,} characters left out here …]\n{text[-tail:]}"


def cut_string(text: str) -> str:
    """One that has a line to itself."""
    if len(text) <= LONGEST_STRING:
        return text
    if data := _data_url(text):
        return data
    return f"{text[:LONGEST_STRING]} [… {len(text) - LONGEST_STRING:,} more characters]"


def cut_values(value: JsonValue) -> JsonValue:
    """The same JSON with its long strings cut."""
    match value:
        case str():
            return cut_string(value)
        case list():
            return [cut_values(each) for each in value]
        case dict():
            return {name: cut_values(each) for name, each in value.items()}
    return value


def pretty(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def read_json(data: bytes | str) -> JsonValue:
    """None for what is no JSON."""
    try:
        found: JsonValue = from_json(data)
    except ValueError:
        return None
    return found


def arguments_in_words(arguments: JsonValue) -> str:
    """A call's arguments: a line each, and texts of several lines as they are."""
    parsed = read_json(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(parsed, dict):
        return cut(arguments if isinstance(arguments, str) else pretty(arguments))
    lines = []
    for name, value in parsed.items():
        if isinstance(value, str) and "\n" in value:
            lines.append(f"{name}:\n{indented(cut(value))}")
        elif isinstance(value, dict | list):
            lines.append(f"{name}: {cut(_compact(value))}")
        else:
            lines.append(f"{name}: {cut(value) if isinstance(value, str) else _compact(value)}")
    return "\n".join(lines)


def _compact(value: JsonValue) -> str:
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= WIDTH else pretty(value)


def file_in_words(kind: str, url: JsonValue) -> str:
    """``[image image/png, 41.2 kB]`` for a data URL, the address of another."""
    if not isinstance(url, str):
        return f"[{kind}]"
    if data := _data_url(url):
        return f"[{kind} {data[1:-1]}]"
    return f"[{kind} {cut_string(url)}]"


def decoded_size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def _data_url(text: str) -> str:
    if not text.startswith("data:"):
        return ""
    head, comma, rest = text.partition(",")
    if not comma or not head.endswith(";base64"):
        return ""
    kind = head.removeprefix("data:").removesuffix(";base64")
    return f"[{cut_string(kind) or 'data'}, {size(decoded_size(rest))}]"
