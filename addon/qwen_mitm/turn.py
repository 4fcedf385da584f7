"""A Responses request through its life: translated, sent, answered.

A turn is an exchange (see exchange.py) and an outgoing request (see attempts.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pydantic import JsonValue

from qwen_mitm.errors import BridgeError, InvalidRequest
from qwen_mitm.exchange import (
    Answer,
    Broken,
    FailedAnswer,
    HeaderFields,
    HttpRequest,
    Refused,
)
from qwen_mitm.headers import TOLD, forwarded, header_value
from qwen_mitm.journey import Journey, Recording
from qwen_mitm.providers import Dialect
from qwen_mitm.redaction import redacted_bytes, redacted_failure
from qwen_mitm.translate.answering import MendingPartReader, Terms
from qwen_mitm.translate.demands import Demands
from qwen_mitm.translate.draft import ResponseDraft
from qwen_mitm.translate.failure import refusal, without_long_wait
from qwen_mitm.translate.rendition import AnyMaker, ChatRendition, Render, Rendition
from qwen_mitm.wire.chat import ChatChunk, Failure
from qwen_mitm.wire.chat_request import ChatRequest
from qwen_mitm.wire.encoding import decoded
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.sse import KEEP_ALIVE


class Turn(Journey):
    """A Responses request on its way to an upstream, and its answer.

    ``render`` makes the request for one host, on demand; ``dialect`` is how the host is spoken to
    that will probably be asked first. ``client_fields`` are the client's headers as they came.
    ``on_complete`` gets the Response object once, when its terminal event is made and before it
    leaves. ``form`` makes the body of an answer that is not streamed of that object.

    Raises:
        BridgeError: the request cannot be rendered for that host.
    """

    def __init__(
        self,
        *,
        render: Render,
        dialect: Dialect,
        model: str,
        demands: Demands,
        stream: bool,
        longest_wait_s: int,
        conversation: str | None,
        client_fields: HeaderFields,
        clock: Callable[[], float],
        heartbeat_s: int,
        timeout_s: int,
        recording_limit: int,
        on_complete: Callable[[JsonObject], None] | None = None,
        form: Callable[[JsonObject], JsonObject] | None = None,
    ) -> None:
        super().__init__(
            clock=clock,
            heartbeat_s=heartbeat_s,
            timeout_s=timeout_s,
            recording_limit=recording_limit,
        )
        self._recording_limit = recording_limit
        self.model = model
        self.demands = demands
        self.conversation = conversation
        self.streams = self.beats = stream
        self._on_complete = on_complete
        self._form = form
        self._longest_wait_s = longest_wait_s
        self._client_fields = client_fields
        self._render = render
        self._renditions = {dialect: render(dialect)}
        self._rendition = self._renditions[dialect]
        self._reader: MendingPartReader[ChatChunk] | None = None
        self._edited: tuple[str, bytes] | None = None
        self._opened = False
        self._draft = ResponseDraft(self._rendition.context)
        self._answering = self._rendition.answering(self._draft, Terms(streams=stream))

    # As an outgoing request --------------------------------------------------------------------

    def request(self, base_path: str, dialect: Dialect) -> HttpRequest:
        """The request for the next attempt.

        Raises:
            BridgeError: it cannot be rendered for this host.
        """
        self._choose(dialect)
        path = self._rendition.path
        # A host may have to stream although the client does not want it (chat_body decides).
        accept = b"text/event-stream" if self.streams else b"application/json, text/event-stream"
        fields = (
            *forwarded(self._client_fields),
            (b"content-type", b"application/json"),
            (b"accept", accept),
            (b"accept-encoding", b"identity"),
        )
        body = self._edited_for(path) or self._rendition.body(stream=self.streams)
        return HttpRequest(base_path + path, fields, body)

    def chat(self, dialect: Dialect) -> ChatRequest:
        """The request for the next attempt, which is with a host that takes no requests of Chat.

        Raises:
            BridgeError: it cannot be rendered for this host.
        """
        self._choose(dialect)
        self._edited_for("")
        assert isinstance(self._rendition, ChatRendition)
        return self._rendition.translation.chat

    def read_with(self, reader: MendingPartReader[ChatChunk]) -> None:
        """The answer to the next attempt is read by this."""
        self._reader = reader

    def preview(self) -> bytes:
        """The request as the host gets it that will probably be asked first."""
        return self._rendition.body(stream=self.streams)

    def edit(self, body: bytes) -> None:
        """A person changed what :meth:`preview` gave: that is what is sent."""
        self._edited = self._rendition.path, body

    @property
    def is_edited(self) -> bool:
        return self._edited is not None

    def _edited_for(self, path: str) -> bytes | None:
        if self._edited is not None and self._edited[0] != path:
            raise InvalidRequest(
                "The request was edited by hand for a host of another kind than the one that is "
                "asked next. Send it again, and leave accounts out that are not meant."
            )
        return self._edited and self._edited[1]

    def _choose(self, dialect: Dialect) -> None:
        if dialect not in self._renditions:
            self._renditions[dialect] = self._render(dialect)
        self._rendition = self._renditions[dialect]
        self._reader = None

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        encoding = refused.headers.get("content-encoding", "identity")
        return refusal(
            refused.status,
            refused.headers,
            redacted_bytes(decoded(refused.body, encoding), self._secrets),
            max_retry_after=max_retry_after,
        )

    # As an exchange ----------------------------------------------------------------------------

    @property
    def assembler(self) -> AnyMaker:
        return self._answering.maker

    @property
    def failure(self) -> Failure | None:
        return self._draft.error

    @property
    def provider(self) -> str:
        return self._rendition.profile.name

    @property
    def rendition(self) -> Rendition:
        """The request as the last host got it."""
        return self._rendition

    @property
    def tokens(self) -> int:
        match self._draft.response()["usage"]:
            case {"total_tokens": int(total)}:
                return total
        return 0

    @property
    def finished(self) -> bool:
        return self._draft.finished

    @property
    def ending(self) -> bool:
        return self.assembler.ending

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        self.note_head(status, fields)
        self.upstream = Recording(self._recording_limit, self.clock)
        if not 200 <= status < 300:
            return "refuse"
        if not self._opened:
            self._draft = ResponseDraft(self._rendition.context)
        coding = header_value(fields, b"content-encoding") or "identity"
        terms = Terms(streams=self.streams, coding=coding, clean=self._cleaned, reader=self._reader)
        self._answering = self._rendition.answering(self._draft, terms)
        return "offer"

    def offer(self, data: bytes) -> bool | FailedAnswer:
        self.upstream.add(data)
        return _verdict(self._answering.offer(data))

    def offer_end(self) -> bool | FailedAnswer:
        return _verdict(self._answering.offer_end())

    def _cleaned(self, failure: Failure) -> Failure:
        failure = redacted_failure(failure, self._secrets)
        message = without_long_wait(failure.message, self._longest_wait_s)
        return replace(failure, message=message)

    def open(self) -> Answer:
        self._opened = True
        fields = [
            (name, value) for name, value in self.upstream_fields if name.lower().startswith(TOLD)
        ]
        warnings = self._rendition.report.header()
        if warnings:
            fields.append((b"x-bridge-warnings", warnings.encode("ascii", "replace")))
        if self.streams:
            fields.append((b"content-type", b"text/event-stream; charset=utf-8"))
            fields.append((b"cache-control", b"no-cache"))
            return Answer(200, tuple(fields))
        fields.append((b"content-type", b"application/json"))
        self._first_event()
        self._settle()
        response = self._draft.response()
        document = response if self._form is None else self._form(response)
        body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self.recording.add(body)
        return Answer(200, tuple(fields), body)

    def accepted(self) -> bytes:
        # An answer that is kept alive is open long before.
        self._first_event()
        return self._recorded(self._answering.accepted())

    def feed(self, data: bytes) -> bytes:
        self.upstream.add(data)
        return self._recorded(self._answering.feed(data))

    def end(self) -> bytes:
        return self._recorded(self._answering.end())

    def broken(self, outcome: Broken) -> bytes:
        """An answer that only lacked its end marker is complete."""
        self.note_failure(outcome.message)
        lost = Failure(
            f"The connection to the upstream was lost: {outcome.message}",
            type="server_error",
            code="server_error",
        )
        return self._recorded(self._answering.broken(lost))

    def fail(self, error: BridgeError) -> bytes:
        return self.stop(
            Failure(error.message, type=error.type, code=error.code, status=error.status)
        )

    def stop(self, failure: Failure) -> bytes:
        """The last events of an answer that cannot go on."""
        return self._recorded(self.assembler.start() + self.assembler.fail(failure))

    def heartbeat(self) -> bytes:
        return self._recorded(self.assembler.start() + KEEP_ALIVE)

    def summary(self) -> dict[str, JsonValue]:
        return {
            **super().summary(),
            "status": self._draft.response()["status"],
            "warnings": self._rendition.report.header(),
            "usage_is_estimated": self._draft.usage_is_estimated,
        }

    def line(self, failure: str | None) -> str:
        """One line for the log."""
        response = self._draft.response()
        words = [self.model, failure or str(response["status"])]
        usage = response["usage"]
        if isinstance(usage, dict):
            guess = "~" if self._draft.usage_is_estimated else ""
            words.append(f"{guess}{usage['input_tokens']} in, {guess}{usage['output_tokens']} out")
        if self.first_event_at is not None:
            words.append(f"first event {self.first_event_at - self.began_at:.2f} s")
        if self.attempts:
            words.append(f"account {self.attempts[-1].account}")
        if len(self.attempts) > 1:
            words.append(f"{len(self.attempts) - 1} failover")
        warnings = self._rendition.report.header()
        return " · ".join([*words, warnings] if warnings else words)

    def _recorded(self, data: bytes) -> bytes:
        if data:
            self._settle()
            self.recording.add(data)
        return data

    def _settle(self) -> None:
        if self._on_complete is not None and self._draft.finished:
            on_complete, self._on_complete = self._on_complete, None
            on_complete(self._draft.response())


def _verdict(verdict: bool | Failure) -> bool | FailedAnswer:
    return FailedAnswer(verdict) if isinstance(verdict, Failure) else verdict
