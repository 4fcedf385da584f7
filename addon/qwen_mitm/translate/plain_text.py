"""The chunk that differs from the one before it in its text alone.

Most of a stream is that chunk. Its bytes around the text are learned once; after that a comparison
of these bytes tells what parsing would tell. It is safe, because

* the text is a whole JSON string value: quotes inside a string are escaped, so ``"content":"`` with
  bare quotes is a key and the begin of its value, and a value without quotes, backslashes and
  control characters ends at the next quote;
* the same bytes around another such value are the same JSON with another value there;
* that this value is the delta's text, and all that the chunk says, was seen by parsing the learned
  bytes around a text of our own;
* what is anything else (escapes, other keys or ids, two events at once) is not recognised, and
  takes the full path.
"""

from __future__ import annotations

import re
from typing import Final

from qwen_mitm.wire.chat import AnswerPart, AnswerReader, ChatChunk

_CONTENT: Final = re.compile(rb'"content": ?"([^"\\\x00-\x1f]+)"')
_PLAIN: Final = re.compile(rb'[^"\\\x00-\x1f]+')
_PROBE: Final = "a text of our own"
#: Ids that change with every chunk cannot be learned; then this is not tried for ever.
_MOST_LESSONS: Final = 4


class PlainText:
    """Learns the shape of text chunks of one stream, then recognises them by their bytes."""

    def __init__(self) -> None:
        self._lessons = 0
        self._before = b""
        self._after = b""

    @property
    def is_learning(self) -> bool:
        return self._lessons < _MOST_LESSONS

    def learn(self, data: bytes, parts: list[AnswerPart]) -> None:
        """``data`` is what one read brought, and ``parts`` what it said."""
        if len(parts) != 1 or not _is_text(parts[0]):
            return
        found = _CONTENT.search(data)
        if found is None or data.count(b"\n") != 2 or not data.endswith(b"\n\n"):
            return
        self._lessons += 1
        before, after = data[: found.start(1)], data[found.end(1) :]
        match AnswerReader().feed(before + _PROBE.encode() + after):
            case [ChatChunk() as chunk] if _is_text(chunk) and _text(chunk) == _PROBE:
                self._before, self._after = before, after

    def text_of(self, data: bytes) -> str | None:
        """The text of a chunk of the learned shape; None: not recognised."""
        before, after = self._before, self._after
        if not before or not data.startswith(before) or not data.endswith(after):
            return None
        text = data[len(before) : -len(after)]
        if len(before) + len(after) >= len(data) or not _PLAIN.fullmatch(text):
            return None
        try:
            return text.decode()
        except UnicodeDecodeError:
            return None


def _text(chunk: ChatChunk) -> str | None:
    return chunk.choice.delta.content if chunk.choice else None


def _is_text(part: AnswerPart) -> bool:
    """Whether a chunk has text and says nothing else."""
    if not isinstance(part, ChatChunk) or part.usage is not None or len(part.choices) != 1:
        return False
    choice = part.choice
    if choice is None or choice.finish_reason is not None or choice.logprobs is not None:
        return False
    delta = choice.delta
    others = delta.reasoning or delta.refusal or delta.tool_calls
    return bool(delta.content) and not others
