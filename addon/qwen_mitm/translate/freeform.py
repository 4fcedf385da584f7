"""The free text of a custom tool's call, out of the arguments of the function that stands for it.

Chat has no freeform tools, so the model is asked for ``{"input": "…"}`` (responses-to-chat §4).
"""

from __future__ import annotations

import json
import re
from typing import Final

from qwen_mitm.wire.request_faults import without_lone_surrogates

_OPENING: Final = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"input"[ \t\r\n]*:[ \t\r\n]*"')
_OPENING_SO_FAR: Final = re.compile(
    r"[ \t\r\n]*(?:\{[ \t\r\n]*"
    r'(?:"(?:i(?:n(?:p(?:u(?:t(?:"[ \t\r\n]*(?::[ \t\r\n]*)?)?)?)?)?)?)?)?)?'
)
# A quote is the last one of the text if nothing but the end of the object can follow.
_CLOSING: Final = re.compile(r'"[ \t\r\n]*(?:(?P<more>,)|\}?[ \t\r\n]*\Z)')
_MARK: Final = re.compile(
    r'(?P<quote>")'
    r"|(?P<unfinished>\\(?:u(?:[0-9a-fA-F]{0,3}"
    r"|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?))?\Z)"
    r"|(?P<escape>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r'|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])'
)
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class FreeformInput:
    """Unwraps the arguments while they arrive, cut anywhere.

    What does not follow the wrapping is held until the end if it could still be JSON, and is the
    input itself if not. Faults inside the string (quotes and backslashes that are not escaped) stay
    as they are: what the model wrote is never lost.
    """

    def __init__(self) -> None:
        self._whole: list[str] = []
        self._pending = ""
        """Read, but not understood before more comes: half an escape, a quote."""
        self._held: list[str] = []
        """What follows a quote and a comma: more members, if it is not just text."""
        self._empty = True
        self._state = self._open

    def feed(self, arguments: str) -> str:
        """The text that these arguments add to the input."""
        self._whole.append(arguments)
        text = self._state(self._pending + arguments)
        self._empty = self._empty and not text
        return text

    def rest(self) -> str:
        """The text that was held back, now that nothing follows."""
        whole = "".join(self._whole)
        if self._state == self._raw:
            return ""
        if self._empty and not (self._pending.startswith('"') or self._held):
            return unwrapped(whole)
        if self._held:
            return self._rest_of_members(whole)
        # A quote ends the string, and half an escape is no text.
        return ""

    def _open(self, text: str) -> str:
        opening = _OPENING.match(text)
        if opening is not None:
            self._state = self._string
            return self._string(text[opening.end() :])
        if _OPENING_SO_FAR.fullmatch(text):
            self._pending = text
            return ""
        self._pending = ""
        if text.lstrip().startswith(("{", '"')):
            self._state = self._hold
            return ""
        self._state = self._raw
        return text

    def _hold(self, text: str) -> str:
        return ""

    def _raw(self, text: str) -> str:
        return text

    def _string(self, text: str) -> str:
        self._pending = ""
        if '"' not in text and "\\" not in text:
            return text
        decoded: list[str] = []
        position = 0
        for mark in _MARK.finditer(text):
            decoded.append(text[position : mark.start()])
            position = mark.start()
            closing = _CLOSING.match(text, position) if mark["quote"] else None
            if closing is not None and closing["more"]:
                self._held = [text[position:]]
                self._state = self._members
                return "".join(decoded)
            if closing is not None or mark["unfinished"]:
                self._pending = text[position:]
                return "".join(decoded)
            decoded.append(_character(mark))
            position = mark.end()
        decoded.append(text[position:])
        return "".join(decoded)

    def _members(self, text: str) -> str:
        self._held.append(text)
        return ""

    def _rest_of_members(self, whole: str) -> str:
        if isinstance(_json(whole), dict):
            return unwrapped(whole) if self._empty else ""
        # The quote was part of the text: the model did not escape it.
        return _decoded(re.sub(r'"[ \t\r\n]*\}?[ \t\r\n]*\Z', "", "".join(self._held)))


def unwrapped(arguments: str) -> str:
    """The input in the arguments of a whole call that are not ``{"input": "…"}``.

    A JSON string, or the only string in an object; else the arguments as they are.
    """
    value = _json(arguments)
    if isinstance(value, dict):
        strings = [member for member in value.values() if isinstance(member, str)]
        named = value.get("input")
        if isinstance(named, str) and named:
            value = named
        elif len(strings) == 1:
            value = strings[0]
    return value if isinstance(value, str) else arguments


def _json(text: str) -> object:
    """What this JSON says, None if it is none; control characters in strings are passed over."""
    try:
        found: object = json.loads(without_lone_surrogates(text.encode()), strict=False)
    except (ValueError, RecursionError):
        return None
    return found


def _decoded(text: str) -> str:
    return _MARK.sub(_character, text)


def _character(mark: re.Match[str]) -> str:
    """What a mark in a JSON string stands for; half of a surrogate pair is no character."""
    if mark["quote"]:
        return '"'
    if mark["unfinished"]:
        return ""
    character: str = json.loads(f'"{mark["escape"]}"')
    return _LONE_SURROGATE.sub("\ufffd", character)
