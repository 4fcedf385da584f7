"""What a self-hosted server leaves in the text becomes what it should have sent.

Between the reader of an answer and the assembler: thoughts between tags become ``reasoning``, calls
in tags become ``tool_calls``. Parts that leak nothing pass as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from qwen_mitm.providers import Profile
from qwen_mitm.translate.think_tags import ThinkTags
from qwen_mitm.translate.xml_calls import Call, Text, XmlCalls
from qwen_mitm.wire.chat import AnswerPart, ChatChunk, Choice, Delta, ToolCallDelta
from qwen_mitm.wire.chat_request import ChatRequest
from qwen_mitm.wire.response_object import JsonObject

#: No host numbers its own calls so high.
_FIRST_INDEX: Final = 1_000_000
_DONE_AS_WISHED: Final = frozenset({"stop", "tool_calls", "function_call"})


def leaks_of(profile: Profile, chat: ChatRequest) -> Leaks | None:
    """For one answer of this host to this request; ``None`` when nothing leaks there."""
    calls = profile.leaks_tool_calls and chat.tool_choice != "none"
    offered = {tool.name: tool.parameters for tool in chat.tools} if calls else {}
    if not offered and not profile.leaks_think_tags:
        return None
    return Leaks(think_tags=profile.leaks_think_tags, offered=offered)


class Leaks:
    """Mends one answer.

    A call inside a thought is a call only when the model finishes with neither text nor another
    call: servers lose it there (https://github.com/vllm-project/vllm/issues/39056), but a model
    also drafts in its thoughts what it then does.
    """

    def __init__(
        self, *, think_tags: bool, offered: Mapping[str, JsonObject], quotes_in_code: bool = False
    ) -> None:
        self._tags = ThinkTags() if think_tags else None
        self._calls = XmlCalls(offered, quotes_in_code=quotes_in_code)
        self._drafts = XmlCalls(offered, quotes_in_code=quotes_in_code)
        self._drafted: list[Call] = []
        self._answered = False
        """There was text or a call."""
        self._index = _FIRST_INDEX

    def feed(self, parts: Iterable[AnswerPart]) -> list[AnswerPart]:
        """The parts, mended; text that may be the beginning of a tag comes later."""
        mended: list[AnswerPart] = []
        for part in parts:
            choice = part.choice if isinstance(part, ChatChunk) else None
            if isinstance(part, ChatChunk) and choice is not None:
                mended += self._mend(part, choice)
            elif isinstance(part, ChatChunk):
                mended.append(part)
            else:
                mended += [*self.end(), part]
        return mended

    def end(self) -> list[AnswerPart]:
        """What was held back, when no more text follows or something else interrupts it."""
        pieces = self._tags.rest() if self._tags else []
        parts = [part for kind, text in pieces for part in self._said(kind, text)]
        return [*parts, *self._written(self._calls.rest())]

    def _mend(self, chunk: ChatChunk, choice: Choice) -> list[AnswerPart]:
        delta = choice.delta
        scored = choice.logprobs is not None and choice.logprobs.content
        if scored or choice.finish_reason == "error_finish":
            # Scores belong to the text as it was written; the words of an error are no answer.
            self._answered = True
            return [*self.end(), chunk]
        mended: list[AnswerPart] = []
        if delta.reasoning:
            mended += [*self.end(), *self._said("thought", delta.reasoning)]
        for kind, text in self._split(delta.content):
            mended += self._said(kind, text)
        interrupted = bool(delta.refusal or delta.tool_calls)
        self._answered = self._answered or interrupted
        if interrupted or choice.finish_reason is not None:
            mended += self.end()
        if choice.finish_reason in _DONE_AS_WISHED:
            mended += self._lost_calls()
        if mended == _text_of(delta):
            # What leaks nothing stays the very chunk that it was.
            return [chunk]
        return [*mended, _without_text(chunk, choice)]

    def _split(self, content: str | None) -> list[tuple[str, str]]:
        if not content:
            return []
        return [*self._tags.feed(content)] if self._tags else [("text", content)]

    def _said(self, kind: str, text: str) -> list[AnswerPart]:
        if kind == "text":
            return self._written(self._calls.feed(text))
        self._drafted += [piece for piece in self._drafts.feed(text) if isinstance(piece, Call)]
        return [*self._written(self._calls.rest()), _part(Delta(reasoning_content=text))]

    def _written(self, pieces: Iterable[Text | Call]) -> list[AnswerPart]:
        parts: list[AnswerPart] = []
        for piece in pieces:
            match piece:
                case Text(text):
                    self._answered = self._answered or not text.isspace()
                    parts.append(_part(Delta(content=text)))
                case Call():
                    parts.append(self._called(piece))
        return parts

    def _called(self, call: Call) -> AnswerPart:
        self._answered = True
        self._index += 1
        whole = ToolCallDelta(index=self._index, name=call.name, arguments=call.arguments)
        return _part(Delta(tool_calls=(whole,)))

    def _lost_calls(self) -> list[AnswerPart]:
        drafted = [piece for piece in self._drafts.rest() if isinstance(piece, Call)]
        lost, self._drafted = [*self._drafted, *drafted], []
        return [] if self._answered else [self._called(call) for call in lost]


def _part(delta: Delta) -> ChatChunk:
    return ChatChunk(choices=(Choice(delta=delta),))


def _text_of(delta: Delta) -> list[AnswerPart]:
    said = [
        Delta(reasoning_content=delta.reasoning) if delta.reasoning else None,
        Delta(content=delta.content) if delta.content else None,
    ]
    return [_part(delta) for delta in said if delta is not None]


def _without_text(chunk: ChatChunk, choice: Choice) -> ChatChunk:
    said = {"content": None, "reasoning_content": None, "reasoning_text": None}
    silent = choice.delta.model_copy(update=said)
    kept = choice.model_copy(update={"chunk_delta": silent, "message": None})
    return chunk.model_copy(update={"choices": (kept,)})
