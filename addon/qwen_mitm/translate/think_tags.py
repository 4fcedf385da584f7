"""Thoughts that a host leaves in the content, between ``<think>`` and ``</think>``.

A host without a reasoning parser, or with a leaky one, sends them so (qwen.md §2.8, §2.10 quirk
12). A thought opens where a model opens one: at the beginning of the text or of a line. Elsewhere,
and in a fenced block, a tag is something that the model writes about.
"""

from __future__ import annotations

from typing import Final, Literal

type Piece = tuple[Literal["thought", "text"], str]

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_FENCES: Final = ("```", "~~~")
#: Models put a line break or two before a tag; so much is held back until it is clear.
_MOST_BLANK: Final = 64


class ThinkTags:
    """Splits one text. Nothing is held back but what may be the beginning of a tag.

    White space around a thought belongs to the tags: it is left out, except that what was said
    before a thought stays as it is.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._held = ""
        self._thinking = False
        self._fresh = True
        """Nothing but white space since the beginning or the last tag."""
        self._tagged = False
        self._line = ""
        """How the line begins that is being written: no more than makes out a fence."""
        self._fence = ""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now; none is empty."""
        pieces: list[Piece] = []
        text, self._held = self._held + text, ""
        while text:
            text = self._thought(text, pieces) if self._thinking else self._text(text, pieces)
        return pieces

    def rest(self) -> list[Piece]:
        """What was held back, when the text ends; after it another text may begin."""
        held, thinking = self._held, self._thinking
        self._reset()
        if not held:
            return []
        return [("thought" if thinking else "text", held)]

    def _thought(self, text: str, pieces: list[Piece]) -> str:
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        thought, tag, after = text.partition(_CLOSE)
        if not tag:
            thought, self._held = _split_off_beginning(text, _CLOSE)
        if thought:
            pieces.append(("thought", thought))
        if tag:
            self._thinking = False
            self._begin_anew()
        return after

    def _text(self, text: str, pieces: list[Piece]) -> str:
        if self._fresh:
            text = self._beginning(text)
            if self._fresh:
                return text
        said, after = self._up_to_thought(text)
        if said:
            pieces.append(("text", said))
        return after

    def _beginning(self, text: str) -> str:
        """Looks for a tag after white space; the text that is left to look at."""
        body = text.lstrip()
        blank = "" if self._tagged else text[: len(text) - len(body)]
        if len(blank) > _MOST_BLANK:
            self._fresh = False
        elif body.startswith(_OPEN):
            self._thinking = True
            return body.removeprefix(_OPEN)
        elif body.startswith(_CLOSE):
            # The host took the opening tag for its own, or sent the thought by itself.
            self._begin_anew()
            return body.removeprefix(_CLOSE)
        elif _OPEN.startswith(body) or _CLOSE.startswith(body):
            self._held = blank + body
            return ""
        else:
            self._fresh = False
        return blank + body

    def _up_to_thought(self, text: str) -> tuple[str, str]:
        """What is said before the next thought, and what follows its tag."""
        said, tag, after = text.partition(_OPEN)
        if not tag:
            said, held = _split_off_beginning(text, _OPEN)
            self._note(said)
            if held and not self._at_line_start():
                self._note(held)
                return said + held, ""
            self._held = held
            return said, ""
        self._note(said)
        if not self._at_line_start():
            self._note(tag)
            return said + tag, after
        self._thinking = self._fresh = True
        return said, after

    def _begin_anew(self) -> None:
        self._fresh = self._tagged = True
        self._line = ""

    def _at_line_start(self) -> bool:
        return not self._line and not self._fence

    def _note(self, said: str) -> None:
        """Keeps track of lines and fences."""
        *lines, last = (self._line + said).split("\n")
        for line in lines:
            beginning = line.lstrip()[:3]
            if not self._fence and beginning in _FENCES:
                self._fence = beginning
            elif beginning == self._fence:
                self._fence = ""
        self._line = last.lstrip()[:3]


def _split_off_beginning(text: str, tag: str) -> tuple[str, str]:
    """The text, and what at its end may be the beginning of a tag."""
    at = text.rfind("<", -len(tag) + 1)
    if at < 0 or not tag.startswith(text[at:]):
        return text, ""
    return text[:at], text[at:]
