"""A Responses request through its life: translated, sent, answered.

A turn is an exchange (see exchange.py) and an outgoing request (see attempts.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pydantic import JsonValue

from qwen_mitm.errors import BridgeError
from qwen_mitm.exchange import (
    Answer,
    Broken,
    FailedAnswer,
    HeaderFields,
    Refused,
)
from qwen_mitm.headers import TOLD, forwarded, header_value
from qwen_mitm.journey import Journey
from qwen_mitm.providers import GENERIC, Profile
from qwen_mitm.redaction import redacted_bytes, redacted_failure
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.compaction import Compactor
from qwen_mitm.translate.failure import refusal, without_long_wait
from qwen_mitm.translate.leaks import Leaks, leaks_of
from qwen_mitm.translate.plain_text import PlainText
from qwen_mitm.translate.request import Translation
from qwen_mitm.wire.chat import AnswerPart, AnswerReader, Failure
from qwen_mitm.wire.encoding import ContentDecoder, decoded
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.sse import KEEP_ALIVE


class Turn(Journey):
    """A Responses request that is answered by a Chat Completions upstream.

    ``client_fields`` are the client's headers as they came. ``on_complete`` gets the Response
    object once, when its terminal event is made and before it leaves. ``form`` makes the body of an
    answer that is not streamed of that object.
    """

    def __init__(
        self,
        *,
        translation: Translation,
        new_assembler: Callable[[], Assembler | Compactor],
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
        self._on_complete = on_complete
        self._form = form
        self.translation = translation
        self.conversation = conversation
        self._longest_wait_s = longest_wait_s
        self._new_assembler = new_assembler
        self.assembler = new_assembler()
        self._opened = False
        self.streams = self.beats = stream
        self._client_fields = client_fields
        self._profile = GENERIC
        self._leaks: Leaks | None = None
        self._plain = PlainText()
        self._reads_directly = self._in_plain_text = False
        self._reader = AnswerReader()
        self._coding = "identity"
        self._decoder: ContentDecoder | None = None
        self._offered: list[AnswerPart] = []

    # As an outgoing request --------------------------------------------------------------------

    @property
    def model(self) -> str:
        return self.translation.chat.model

    def target(self, base_path: str) -> str:
        return f"{base_path}/chat/completions"

    def headers(self) -> HeaderFields:
        # A host may have to stream although the client does not want it (chat_body decides).
        accept = b"text/event-stream" if self.streams else b"application/json, text/event-stream"
        return (
            *forwarded(self._client_fields),
            (b"content-type", b"application/json"),
            (b"accept", accept),
            (b"accept-encoding", b"identity"),
        )

    def body(self, profile: Profile) -> bytes:
        self._profile = profile
        return chat_body(self.translation.chat, profile, stream=self.streams or profile.stream_only)

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        encoding = refused.headers.get("content-encoding", "identity")
        return refusal(
            refused.status,
            refused.headers,
            redacted_bytes(decoded(refused.body, encoding), self._credential),
            max_retry_after=max_retry_after,
        )

    # As an exchange ----------------------------------------------------------------------------

    @property
    def failure(self) -> Failure | None:
        return self.assembler.error

    @property
    def tokens(self) -> int:
        match self.assembler.response()["usage"]:
            case {"total_tokens": int(total)}:
                return total
        return 0

    @property
    def finished(self) -> bool:
        return self.assembler.finished

    @property
    def ending(self) -> bool:
        return self.assembler.ending

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        self.note_head(status, fields)
        if not 200 <= status < 300:
            return "refuse"
        self._reader = AnswerReader()
        self._leaks = leaks_of(self._profile, self.translation.chat)
        self._coding = header_value(fields, b"content-encoding") or "identity"
        self._reads_directly = self._coding == "identity" and self._leaks is None
        self._in_plain_text = False
        self._plain = PlainText()
        self._decoder = None
        self._offered = []
        if not self._opened:
            self.assembler = self._new_assembler()
        return "offer"

    def offer(self, data: bytes) -> bool | FailedAnswer:
        return self._weigh(self._mended(self._read(data)), ended=False)

    def offer_end(self) -> bool | FailedAnswer:
        return self._weigh(self._last_parts(), ended=True)

    def _mended(self, parts: list[AnswerPart]) -> list[AnswerPart]:
        """Thoughts and calls that a self-hosted server let through as text."""
        return self._leaks.feed(parts) if self._leaks else parts

    def _last_parts(self) -> list[AnswerPart]:
        parts = self._mended(self._reader.end())
        return [*parts, *self._leaks.end()] if self._leaks else parts

    def _redacted(self, parts: list[AnswerPart]) -> list[AnswerPart]:
        """Nothing follows a failure, so it is the last part."""
        if parts and isinstance(failure := parts[-1], Failure):
            failure = redacted_failure(failure, self._credential)
            message = without_long_wait(failure.message, self._longest_wait_s)
            parts[-1] = replace(failure, message=message)
        return parts

    def _read(self, data: bytes) -> list[AnswerPart]:
        if self._coding == "identity":
            return self._reader.feed(data)
        try:
            self._decoder = self._decoder or ContentDecoder(self._coding)
            return self._reader.feed(self._decoder.feed(data))
        except ValueError as error:
            return [Failure(f"The upstream's answer cannot be decoded: {error}", "server_error")]

    def _weigh(self, parts: list[AnswerPart], *, ended: bool) -> bool | FailedAnswer:
        self._offered += self._redacted(parts)
        if self._offered and isinstance(self._offered[0], Failure):
            return FailedAnswer(self._offered[0])
        if self.streams:
            return bool(self._offered)
        if not ended:
            return False
        # A client that does not stream gets a status of its own for an answer that failed late.
        self.assembler.feed(self._offered)
        self.assembler.end()
        if self.assembler.error:
            return FailedAnswer(self.assembler.error)
        return bool(self._offered)

    def open(self) -> Answer:
        self._opened = True
        self._first_event()
        fields = [
            (name, value) for name, value in self.upstream_fields if name.lower().startswith(TOLD)
        ]
        warnings = self.translation.report.header()
        if warnings:
            fields.append((b"x-bridge-warnings", warnings.encode("ascii", "replace")))
        if self.streams:
            fields.append((b"content-type", b"text/event-stream; charset=utf-8"))
            fields.append((b"cache-control", b"no-cache"))
            return Answer(200, tuple(fields))
        fields.append((b"content-type", b"application/json"))
        self._settle()
        response = self.assembler.response()
        document = response if self._form is None else self._form(response)
        body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self.recording.add(body)
        return Answer(200, tuple(fields), body)

    def accepted(self) -> bytes:
        parts, self._offered = self._offered, []
        return self._recorded(self.assembler.feed(parts))

    def feed(self, data: bytes) -> bytes:
        # The short way for most chunks: it changes nothing of what allows it.
        if self._in_plain_text and (text := self._plain.text_of(data)) is not None:
            events = self.assembler.say(text)
            self.recording.add(events)
            return events
        parts = self._read(data)
        if self._plain.is_learning:
            self._plain.learn(data, parts)
        events = self.assembler.feed(self._redacted(self._mended(parts)))
        self._in_plain_text = (
            self._reads_directly and self._reader.idle and self.assembler.in_plain_text
        )
        return self._recorded(events) if events else events

    def end(self) -> bytes:
        return self._recorded(
            self.assembler.feed(self._redacted(self._last_parts())) + self.assembler.end()
        )

    def broken(self, outcome: Broken) -> bytes:
        """An answer that only lacked its end marker is complete."""
        self.note_failure(outcome.message)
        lost = Failure(
            f"The connection to the upstream was lost: {outcome.message}",
            type="server_error",
            code="server_error",
        )
        held = self._leaks.end() if self._leaks else []
        return self._recorded(self.assembler.feed(held) + self.assembler.end(lost))

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
            "status": self.assembler.response()["status"],
            "warnings": self.translation.report.header(),
            "usage_is_estimated": self.assembler.usage_is_estimated,
        }

    def line(self, failure: str | None) -> str:
        """One line for the log."""
        response = self.assembler.response()
        words = [self.model, failure or str(response["status"])]
        usage = response["usage"]
        if isinstance(usage, dict):
            guess = "~" if self.assembler.usage_is_estimated else ""
            words.append(f"{guess}{usage['input_tokens']} in, {guess}{usage['output_tokens']} out")
        if self.first_event_at is not None:
            words.append(f"first event {self.first_event_at - self.began_at:.2f} s")
        if self.attempts:
            words.append(f"account {self.attempts[-1].account}")
        if len(self.attempts) > 1:
            words.append(f"{len(self.attempts) - 1} failover")
        warnings = self.translation.report.header()
        return " · ".join([*words, warnings] if warnings else words)

    def _recorded(self, data: bytes) -> bytes:
        if data:
            self._settle()
            self.recording.add(data)
        return data

    def _settle(self) -> None:
        if self._on_complete is not None and self.assembler.finished:
            on_complete, self._on_complete = self._on_complete, None
            on_complete(self.assembler.response())
