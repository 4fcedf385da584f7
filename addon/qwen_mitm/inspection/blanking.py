"""Texts are replaced letter by letter: what is left has the shape of what was said. Pure."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Final

from pydantic import JsonValue

from qwen_mitm.inspection.wording import read_json

_LETTER: Final = re.compile(r"[^\W_]")
_BLANK: Final = "x"
#: Fields that hold what somebody said. Names and types are left, because the rest hangs on them.
_SAID: Final = frozenset(
    {
        "const",
        "content",
        "data",
        "default",
        "definition",
        "delta",
        "description",
        "encrypted_content",
        "examples",
        "file_data",
        "filename",
        "image_url",
        "input",
        "instructions",
        "message",
        "output",
        "pattern",
        "reasoning",
        "reasoning_content",
        "refusal",
        "summary",
        "text",
        "title",
        "url",
    }
)
_ARGUMENTS: Final = "arguments"


def blank_text(text: str) -> str:
    """Punctuation and white space stay, and so do the marks of data URLs."""
    head, comma, rest = text.partition(",") if text.startswith("data:") else ("", "", text)
    return head + comma + _LETTER.sub(_BLANK, rest)


class BlankArguments:
    """JSON in pieces of any size: strings that are values are blanked, keys and the rest stay.

    What is no JSON object or list is a text.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self._started = self._is_text = False
        self._in_string = self._is_key = self._after_colon = False
        self._keep = 0
        """Characters of an escape sequence that are to come."""
        self._begun = False

    def feed(self, piece: str) -> str:
        return "".join(map(self._one, piece))

    def _one(self, character: str) -> str:
        if not self._started and not character.isspace():
            self._started = True
            self._is_text = character not in "{["
        if self._is_text:
            return blank_text(character)
        return self._in(character) if self._in_string else self._between(character)

    def _between(self, character: str) -> str:
        match character:
            case "{" | "[":
                self._open.append(character)
                self._after_colon = False
            case "}" | "]":
                del self._open[-1:]
            case ":":
                self._after_colon = True
            case ",":
                self._after_colon = False
            case '"':
                self._in_string = True
                self._is_key = self._open[-1:] == ["{"] and not self._after_colon
        return character

    def _in(self, character: str) -> str:
        if self._keep:
            # \\uXXXX has four more.
            self._keep += 3 if self._begun and character == "u" else -1
            self._begun = False
            return character
        if character == "\\":
            self._keep, self._begun = 1, True
            return character
        if character == '"':
            self._in_string = False
            return character
        return character if self._is_key else blank_text(character)


type _Calls = defaultdict[str, BlankArguments]


class _Blank(str):
    """A text that is blanked already."""


def blank_document(value: JsonValue) -> JsonValue:
    """A request, or one event of an answer that stands alone."""
    return _blanked(value, said=False)


def _blanked(value: JsonValue, *, said: bool) -> JsonValue:
    match value:
        case str():
            return blank_text(value) if said else value
        case list():
            return [_blanked(each, said=said) for each in value]
        case dict():
            return {name: _field(name, each) for name, each in value.items()}
    return value


def _field(name: str, value: JsonValue) -> JsonValue:
    if isinstance(value, _Blank):
        return value
    if name == _ARGUMENTS and isinstance(value, str):
        return BlankArguments().feed(value)
    # A property that is called "text" has a schema, which is no text.
    return _blanked(value, said=name in _SAID)


def blank_stream(stream: bytes) -> bytes:
    """The answer of an upstream: SSE of Chat or Responses, or one JSON document."""
    document = read_json(stream)
    if document is not None:
        return _encoded(blank_document(document))
    calls: _Calls = defaultdict(BlankArguments)
    return b"\n".join(_blank_line(line, calls) for line in stream.split(b"\n"))


def _blank_line(line: bytes, calls: _Calls) -> bytes:
    head, colon, data = line.partition(b":")
    parsed = read_json(data) if head == b"data" else None
    if not isinstance(parsed, dict):
        # Comments and what cannot be read may say anything.
        is_known = not line.strip() or head == b"event"
        return line if is_known or data.strip() == b"[DONE]" else b""
    _blank_fragments(parsed, calls)
    blank = blank_document(parsed)
    end = b"\r" if line.endswith(b"\r") else b""
    return head + colon + b" " + _encoded(blank) + end


def _blank_fragments(event: dict[str, JsonValue], calls: _Calls) -> None:
    """Pieces of arguments, each in the light of those before it."""
    match event:
        case {"type": str(kind), "delta": str(piece)} if kind.endswith("arguments.delta"):
            event["delta"] = _Blank(calls[str(event.get("item_id"))].feed(piece))
        case {"choices": [{"delta": {"tool_calls": list(found)}}, *_]}:
            for call in found:
                match call:
                    case {"function": dict(function), **rest}:
                        given = function.get(_ARGUMENTS)
                        if isinstance(given, str):
                            done = calls[str(rest.get("index"))].feed(given)
                            function[_ARGUMENTS] = _Blank(done)


def _encoded(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
