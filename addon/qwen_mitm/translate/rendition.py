"""A request as one host wants it, and how that host's answer is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from qwen_mitm.providers import Dialect, Profile
from qwen_mitm.translate.answering import (
    Answering,
    ChatAnswering,
    MendedAnswering,
    MendingPartReader,
    MendingReader,
    Terms,
)
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.chat_messages import MessageTexts
from qwen_mitm.translate.compaction import Compactor
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft, ResponseMaker
from qwen_mitm.translate.leaks import leaks_of
from qwen_mitm.translate.native_assembler import NativeAssembler
from qwen_mitm.translate.native_body import native_body
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.request import Translation
from qwen_mitm.wire.alike import Run
from qwen_mitm.wire.chat import AnswerReader, ChatChunk
from qwen_mitm.wire.upstream_events import ResponsesReader, UpstreamEvent

type ChatAnswer = Answering[ChatChunk] | Answering[ChatChunk | Run]
type AnyAnswering = ChatAnswer | Answering[UpstreamEvent]
type AnyMaker = (
    ResponseMaker[ChatChunk] | ResponseMaker[ChatChunk | Run] | ResponseMaker[UpstreamEvent]
)


class Rendition(Protocol):
    @property
    def translation(self) -> Translation: ...

    @property
    def profile(self) -> Profile:
        """Of the host that it is made for."""

    @property
    def path(self) -> str:
        """Of the endpoint, under an account's base path."""

    @property
    def report(self) -> Report:
        """What became of what this host does not take."""

    @property
    def context(self) -> AnswerContext: ...

    def body(self, *, stream: bool) -> bytes: ...

    def answering(self, draft: ResponseDraft, terms: Terms) -> AnyAnswering:
        """Reads one answer, and goes on with a response that may have been begun."""


type Render = Callable[[Dialect], Rendition]


@dataclass(frozen=True, slots=True)
class ChatRendition:
    """As a Chat Completions request."""

    translation: Translation
    profile: Profile
    context: AnswerContext
    texts: MessageTexts = field(default_factory=MessageTexts)
    path = "/chat/completions"

    @property
    def report(self) -> Report:
        return self.translation.report

    def body(self, *, stream: bool) -> bytes:
        # A summary takes long, and gateways give up what is silent for long.
        stream = stream or self.profile.stream_only or self.translation.compacts
        return chat_body(self.translation.chat, self.profile, stream=stream, texts=self.texts)

    def answering(self, draft: ResponseDraft, terms: Terms) -> ChatAnswer:
        reader: MendingPartReader[ChatChunk] | None = terms.reader
        leaks = leaks_of(self.profile, self.translation.chat)
        if reader is None and leaks is not None:
            reader = MendingReader(leaks)
        if self.context.seal_summary is not None:
            compactor = Compactor(self.context, draft, Assembler, self.context.seal_summary)
            return Answering(reader or AnswerReader(), compactor, terms)
        assembler = Assembler(self.context, draft)
        if reader is not None:
            return MendedAnswering(reader, assembler, terms)
        return ChatAnswering(assembler, terms)


@dataclass(frozen=True, slots=True)
class NativeRendition:
    """As a Responses request, for a host that speaks Responses itself."""

    translation: Translation
    profile: Profile
    context: AnswerContext
    path = "/responses"

    @property
    def report(self) -> Report:
        return self.translation.report

    def body(self, *, stream: bool) -> bytes:
        keeps_thoughts = self.context.seal is not None
        return native_body(
            self.translation.chat, self.profile, stream=stream, encrypted=keeps_thoughts
        )

    def answering(self, draft: ResponseDraft, terms: Terms) -> Answering[UpstreamEvent]:
        context = self.context
        if context.seal_summary is None:
            return Answering(ResponsesReader(), NativeAssembler(context, draft), terms)
        compactor = Compactor(context, draft, NativeAssembler, context.seal_summary)
        return Answering(ResponsesReader(), compactor, terms)
