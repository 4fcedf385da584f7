"""Qwen's tool calls that a self-hosted server leaves in the text (qwen.md §2.10, quirk 15).

    <tool_call>{"name": "NAME", "arguments": {…}}</tool_call>
    <tool_call><function=NAME><parameter=KEY>VALUE</parameter>…</function></tool_call>

Models leave out the outer tags of the second form, one or both, and now and then a closing tag.
Only what is a whole call of an offered tool becomes one; all else is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from json import JSONDecodeError
from typing import Final

from pydantic import JsonValue

from qwen_mitm.translate.code_quotes import CodeQuotes
from qwen_mitm.translate.events import encode_json
from qwen_mitm.translate.schema_values import MODEL_JSON, typed_value
from qwen_mitm.wire.response_object import JsonObject

_CALL: Final = "<tool_call>"
_CALL_END: Final = "</tool_call>"
_FUNCTION: Final = "<function="
_FUNCTION_END: Final = "</function>"
_PARAMETER: Final = "<parameter="

_TAGS: Final = (_CALL, _FUNCTION, _CALL_END)
_ANY_TAG: Final = re.compile("|".join(_TAGS))
_ENDS: Final = (_CALL_END, _FUNCTION_END)
_LONGEST_TAG: Final = max(map(len, _TAGS))
#: Models put a line break or two around a tag; more is no markup.
_MOST_BLANK: Final = 64
_SPACE: Final = re.compile(rf"\s{{0,{_MOST_BLANK}}}")
_KEY: Final = re.compile(r"<parameter=([^<>\n]+)>\n?")
# A value may hold the closing tag: it ends where the next parameter or the end of the call follows.
_VALUE_END: Final = re.compile(
    r"</(?:parameter>\s*(?=<parameter=|</function>|</tool_call>)|(?=function>\s*</tool_call>))"
)

#: Longer than any name with its tags: then it is clear whether a call begins.
_LONGEST_HEAD: Final = 512
#: More than a model writes in one answer.
_MOST_HELD: Final = 4 * 1024 * 1024
#: So many tags that were none: the text is about them, and looking on would only cost time.
_MOST_REJECTED: Final = 100


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: str
    """A JSON object."""


class _Verdict(Enum):
    NO_CALL = "no call"
    MORE = "more text may make it a call"


@dataclass(frozen=True, slots=True)
class _Found:
    call: Call
    end: int
    closed: bool
    """Its outermost closing tag was read."""


class XmlCalls:
    """Finds the calls of one text.

    Only what may be a call is held back, from its tag on. White space between calls, before the
    first one of a text that begins with it, and after the last one belongs to the markup.
    """

    def __init__(self, offered: Mapping[str, JsonObject], *, quotes_in_code: bool = False) -> None:
        """``offered`` has the parameters' JSON schema of every tool that may be called.

        ``quotes_in_code``: what stands in Markdown code is quoted, and no call.
        """
        self._offered = offered
        self._quotes_in_code = quotes_in_code
        self._reset()

    def _reset(self) -> None:
        self._held: list[str] = []
        self._held_length = 0
        self._window = ""
        self._in_call = False
        """The head of a call is held, and the closing tag is waited for."""
        self._blank: str | None = ""
        """White space since the beginning or the last call; None once something was said."""
        self._called = False
        self._may_close = False
        """The outer closing tag of the last call may follow."""
        self._rejected = 0
        self._code = CodeQuotes()

    def feed(self, text: str) -> list[Text | Call]:
        """The pieces that are certain now; no text is empty."""
        if not self._offered:
            return [Text(text)] if text else []
        self._held.append(text)
        self._held_length += len(text)
        if self._in_call and not self._may_be_whole(text):
            return []
        return self._pieces(self._take_held(), final=False)

    def rest(self) -> list[Text | Call]:
        """What was held back, when the text ends; after it another text may begin."""
        pieces = self._pieces(self._take_held(), final=True)
        if self._blank and not self._called:
            pieces.append(Text(self._blank))
        self._reset()
        return pieces

    def _may_be_whole(self, text: str) -> bool:
        window = self._window + text
        self._window = window[-_LONGEST_TAG:]
        return self._held_length > _MOST_HELD or any(end in window for end in _ENDS)

    def _take_held(self) -> str:
        text = "".join(self._held)
        self._hold("")
        return text

    def _hold(self, text: str, *, in_call: bool = False) -> None:
        self._held = [text]
        self._held_length = len(text)
        self._window = text[-_LONGEST_TAG:]
        self._in_call = in_call

    def _pieces(self, text: str, *, final: bool) -> list[Text | Call]:
        pieces: list[Text | Call] = []
        while text:
            gave_up = self._rejected > _MOST_REJECTED
            tag = None if gave_up else _ANY_TAG.search(text)
            if tag is None:
                said = text if final or gave_up else text[: _beginning_of_tag(text)]
                self._say(said, pieces)
                self._hold(text[len(said) :])
                break
            self._say(text[: tag.start()], pieces)
            text = self._from_tag(text[tag.start() :], tag.group(), pieces, final)
        return pieces

    def _from_tag(self, text: str, tag: str, pieces: list[Text | Call], final: bool) -> str:
        """Reads what begins with this tag; the text that is left to look at."""
        if self._quotes_in_code and self._code.is_open:
            self._say(tag, pieces)
            return text.removeprefix(tag)
        if tag == _CALL_END:
            if self._blank is not None and self._may_close:
                self._blank = ""
            else:
                self._say(tag, pieces)
            self._may_close = False
            return text.removeprefix(tag)
        match _read(text, self._offered, final):
            case _Found(call, end, closed):
                pieces.append(call)
                self._called = True
                self._may_close = not closed
                self._blank = ""
                self._code = CodeQuotes()
                return text[end:]
            case _Verdict.MORE if len(text) <= _MOST_HELD:
                self._hold(text, in_call=len(text) > _LONGEST_HEAD)
                return ""
            case _:
                self._rejected += 1
                self._say(tag, pieces)
                return text.removeprefix(tag)

    def _say(self, text: str, pieces: list[Text | Call]) -> None:
        if self._quotes_in_code:
            self._code.feed(text)
        if self._blank is not None:
            text = self._blank + text
            if not text.strip() and len(text) <= _MOST_BLANK:
                self._blank = text
                return
            self._blank = None
        if text:
            pieces.append(Text(text))


def _beginning_of_tag(text: str) -> int:
    """Where at the end of the text a tag may begin."""
    at = text.rfind("<", -_LONGEST_TAG)
    if at >= 0 and any(tag.startswith(text[at:]) for tag in _TAGS):
        return at
    return len(text)


def _read(text: str, offered: Mapping[str, JsonObject], final: bool) -> _Found | _Verdict:
    """Reads the call that the text begins with; ``MORE`` only while there may be more."""
    verdict: _Found | _Verdict
    match _body(text, offered):
        case int(at) if text.startswith("{", at):
            verdict = _json_call(text, at, offered)
            if verdict is _Verdict.MORE and final:
                # Hosts stop at the closing tag and do not always send it.
                verdict = _json_call(text + _CALL_END, at, offered)
        case int(at):
            verdict = _xml_call(text, at, offered)
        case _Verdict() as verdict:
            pass
    return _Verdict.NO_CALL if final and verdict is _Verdict.MORE else verdict


def _body(text: str, offered: Mapping[str, JsonObject]) -> int | _Verdict:
    """Where the JSON object or the function of a call begins."""
    at = 0
    if text.startswith(_CALL):
        at = _after_space(text, len(_CALL))
        if text.startswith("{", at):
            return at
    if not text.startswith(_FUNCTION, at):
        return _begins(text, at, _FUNCTION)
    name, bracket, _ = text[at + len(_FUNCTION) : at + _LONGEST_HEAD].partition(">")
    if not bracket:
        known = any(offer.startswith(name) for offer in offered)
        return _Verdict.MORE if known else _Verdict.NO_CALL
    if name not in offered:
        return _Verdict.NO_CALL
    inner = _after_space(text, at + len(_FUNCTION) + len(name) + 1)
    if text.startswith((_PARAMETER, _FUNCTION_END), inner):
        return at
    verdicts = {_begins(text, inner, tag) for tag in (_PARAMETER, _FUNCTION_END)}
    return _Verdict.MORE if _Verdict.MORE in verdicts else _Verdict.NO_CALL


def _begins(text: str, at: int, tag: str) -> _Verdict:
    """Whether what is left of the text may become this tag."""
    return _Verdict.MORE if tag.startswith(text[at : at + len(tag)]) else _Verdict.NO_CALL


def _json_call(text: str, at: int, offered: Mapping[str, JsonObject]) -> _Found | _Verdict:
    last = text.rfind(_CALL_END)
    if last < at:
        return _Verdict.MORE
    # Cut at a closing tag, so that no escape sequence is: an open string goes on behind it.
    closed = text[: last + len(_CALL_END)]
    try:
        value, end = MODEL_JSON.raw_decode(closed, at)
    except JSONDecodeError as error:
        in_string = error.msg.startswith("Unterminated string")
        return _Verdict.MORE if in_string else _Verdict.NO_CALL
    except (ValueError, RecursionError):
        return _Verdict.NO_CALL
    end = _after_space(closed, end)
    call = _call_of(value, offered) if closed.startswith(_CALL_END, end) else None
    return _Verdict.NO_CALL if call is None else _Found(call, end + len(_CALL_END), True)


def _call_of(value: JsonValue, offered: Mapping[str, JsonObject]) -> Call | None:
    match value:
        case {"name": str(name), "arguments": arguments} if name in offered:
            pass
        case {"name": str(name), "parameters": arguments} if name in offered:
            pass
        case {"name": str(name)} if name in offered:
            arguments = {}
        case _:
            return None
    if isinstance(arguments, str):
        try:
            arguments = MODEL_JSON.decode(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            return None
    if arguments is None:
        arguments = {}
    return _call(name, arguments) if isinstance(arguments, dict) else None


def _call(name: str, arguments: JsonObject) -> Call | None:
    try:
        return Call(name, encode_json(arguments))
    except RecursionError:
        return None


def _xml_call(text: str, at: int, offered: Mapping[str, JsonObject]) -> _Found | _Verdict:
    if not any(end in text for end in _ENDS):
        return _Verdict.MORE
    name, _, _ = text[at + len(_FUNCTION) :].partition(">")
    at = _after_space(text, at + len(_FUNCTION) + len(name) + 1)
    arguments: JsonObject = {}
    while not text.startswith(_ENDS, at):
        key = _KEY.match(text, at)
        if key is None:
            begun = not set("<>\n").intersection(text[at + len(_PARAMETER) :])
            return _Verdict.MORE if begun else _Verdict.NO_CALL
        end = _VALUE_END.search(text, key.end())
        if end is None:
            return _Verdict.MORE
        value = text[key.end() : end.start()].removesuffix("\n")
        arguments[key[1]] = typed_value(value, key[1], offered[name])
        # Without its own closing tag a value ends before the function's.
        at = end.start() if end[0] == "</" else end.end()
    closed = text.startswith(_CALL_END, at)
    end_tag = _CALL_END if closed else _FUNCTION_END
    call = _call(name, arguments)
    return _Verdict.NO_CALL if call is None else _Found(call, at + len(end_tag), closed)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
