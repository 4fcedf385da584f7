"""Sees every stream of events that is written and every Chat request that is built, in any test.

``conftest`` installs it before a test module can import what it looks at; what it saw is judged at
the end of each test, also where the test itself looks at nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Final
from weakref import WeakSet

from qwen_mitm.providers import Profile
from qwen_mitm.translate import chat_body as chat_body_module
from qwen_mitm.translate import native_assembler as native_assembler_module
from qwen_mitm.translate import native_body as native_body_module
from qwen_mitm.translate.chat_messages import MessageTexts
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft
from qwen_mitm.translate.events import EventWriter
from qwen_mitm.wire.chat_request import ChatRequest
from tests.chat_checker import check_chat
from tests.event_checker import FAULTS, check_stream
from tests.responses_checker import check_request

_TERMINAL: Final = re.compile(rb"^event: response\.(completed|incomplete|failed)$", re.MULTILINE)
_DONE: Final = b"data: [DONE]\n\n"
#: How a proxy's log says it.
BROKEN_RULE: Final = "broken rule"


class Watch:
    """What the test that is running has made so far."""

    def __init__(self) -> None:
        self._responses: WeakSet[EventWriter] = WeakSet()
        """The writers of whole responses; some tests write single events."""
        self._open: dict[EventWriter, list[bytes]] = {}
        self._ended: WeakSet[EventWriter] = WeakSet()
        self._native: WeakSet[EventWriter] = WeakSet()
        """Those that follow an upstream which speaks Responses itself."""
        self._faults: list[str] = []
        self.tell: Callable[[str], None] = self._faults.append

    def begin(self) -> None:
        self._open.clear()
        self._faults.clear()

    def faults(self) -> list[str]:
        """One line for each rule that was broken since ``begin``."""
        for writer, pieces in self._open.items():
            self._judge(writer, b"".join(pieces), whole=False)
        self._open.clear()
        return self._faults

    def begun(self, draft: ResponseDraft) -> None:
        self._responses.add(draft.events)

    def written(self, writer: EventWriter, frames: bytes) -> None:
        if writer not in self._responses:
            return
        if writer in self._ended:
            self.tell(f"a stream went on after its end: {frames.decode()[:2000]}")
            return
        self._open.setdefault(writer, []).append(frames)
        if _TERMINAL.search(frames):
            self._ended.add(writer)
            self._judge(writer, b"".join(self._open.pop(writer)) + _DONE, whole=True)

    def built(self, body: bytes, profile: Profile) -> None:
        try:
            check_chat(json.loads(body), profile.name)
        except FAULTS as error:
            self.tell(f"a request for {profile.name}: {error!r} {body.decode()[:2000]}")

    def follows(self, draft: ResponseDraft) -> None:
        self._native.add(draft.events)

    def built_natively(self, body: bytes) -> None:
        try:
            check_request(json.loads(body))
        except FAULTS as error:
            self._faults.append(f"a Responses request: {error!r} {body.decode()[:2000]}")

    def _judge(self, writer: EventWriter, stream: bytes, *, whole: bool) -> None:
        try:
            check_stream(stream, whole=whole, native=writer in self._native)
        except FAULTS as error:
            self.tell(f"a stream: {error!r} {stream.decode()[:2000]}")


WATCH: Final = Watch()


def install() -> None:
    """Let everything that imports these from now on be seen."""
    begin = ResponseDraft.__init__
    take = EventWriter.take
    build = chat_body_module.chat_body

    @wraps(begin)
    def begun(self: ResponseDraft, context: AnswerContext) -> None:
        begin(self, context)
        WATCH.begun(self)

    @wraps(take)
    def taken(self: EventWriter) -> bytes:
        frames = take(self)
        if frames:
            WATCH.written(self, frames)
        return frames

    @wraps(build)
    def built(
        chat: ChatRequest, profile: Profile, *, stream: bool, texts: MessageTexts | None = None
    ) -> bytes:
        body = build(chat, profile, stream=stream, texts=texts)
        WATCH.built(body, profile)
        if body != build(chat, profile, stream=stream):
            WATCH.tell("a request that differs from the one without an earlier turn")
        return body

    follow = native_assembler_module.NativeAssembler.__init__
    build_natively = native_body_module.native_body

    @wraps(follow)
    def followed(
        self: native_assembler_module.NativeAssembler,
        context: AnswerContext,
        draft: ResponseDraft | None = None,
    ) -> None:
        draft = draft or ResponseDraft(context)
        WATCH.follows(draft)
        follow(self, context, draft)

    @wraps(build_natively)
    def built_natively(
        chat: ChatRequest, profile: Profile, *, stream: bool, encrypted: bool
    ) -> bytes:
        body = build_natively(chat, profile, stream=stream, encrypted=encrypted)
        WATCH.built_natively(body)
        return body

    native_assembler_module.NativeAssembler.__init__ = followed  # type: ignore[method-assign]
    native_body_module.native_body = built_natively
    ResponseDraft.__init__ = begun  # type: ignore[method-assign]
    EventWriter.take = taken  # type: ignore[method-assign]
    chat_body_module.chat_body = built
