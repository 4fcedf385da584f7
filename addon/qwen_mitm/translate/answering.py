"""The upstream's answer to one attempt: its bytes in, the client's bytes out.

Until it is accepted nothing of it has reached the client, and another account may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.draft import ResponseMaker
from qwen_mitm.translate.leaks import Leaks
from qwen_mitm.wire.alike import QuickReader, Run
from qwen_mitm.wire.chat import AnswerReader, ChatChunk, EndOfAnswer, Failure
from qwen_mitm.wire.encoding import ContentDecoder


class PartReader[P](Protocol):
    """Reads the content-decoded body of a 200 answer."""

    def feed(self, data: bytes) -> list[P | Failure | EndOfAnswer]: ...

    def end(self) -> list[P | Failure | EndOfAnswer]: ...


class MendingPartReader[P](PartReader[P], Protocol):
    """One that holds text back, as long as it may be something else."""

    def rest(self) -> list[P | Failure | EndOfAnswer]:
        """What was held back, when the answer breaks off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How an answer is to be read."""

    streams: bool
    """The client's answer is passed on as it arrives."""
    coding: str = "identity"
    clean: Callable[[Failure], Failure] = lambda failure: failure
    """Takes out of a failure what the client must not see."""
    reader: MendingPartReader[ChatChunk] | None = None
    """Reads this answer, of a host that does not speak Chat Completions."""


class Answering[P]:
    """An answer that is made as it is read."""

    def __init__(self, reader: PartReader[P], maker: ResponseMaker[P], terms: Terms) -> None:
        self._reader = reader
        self._maker = maker
        self._terms = terms
        self._decoder: ContentDecoder | None = None
        self._offered: list[P | Failure | EndOfAnswer] = []

    @property
    def maker(self) -> ResponseMaker[P]:
        return self._maker

    def offer(self, data: bytes) -> bool | Failure:
        """True accepts it, False wants more, a failure is all that came."""
        return self._weigh(self._read(data), ended=False)

    def offer_end(self) -> bool | Failure:
        """The answer ended while nothing was settled. False: it was empty."""
        return self._weigh(self._cleaned(self._reader.end()), ended=True)

    def accepted(self) -> bytes:
        """The events of all that was offered."""
        parts, self._offered = self._offered, []
        return self._maker.feed(parts)

    def feed(self, data: bytes) -> bytes:
        return self._maker.feed(self._read(data))

    def end(self) -> bytes:
        """The last events after a regular end."""
        return self._maker.feed(self._cleaned(self._reader.end())) + self._maker.end()

    def broken(self, lost: Failure) -> bytes:
        """The last events after the connection was lost."""
        return self._maker.end(lost)

    def _weigh(self, parts: Iterable[P | Failure | EndOfAnswer], *, ended: bool) -> bool | Failure:
        self._offered += parts
        if self._offered and isinstance(first := self._offered[0], Failure):
            return first
        if self._terms.streams:
            return bool(self._offered)
        if not ended:
            return False
        # A client that does not stream gets a status of its own for an answer that failed late.
        self._maker.feed(self._offered)
        self._maker.end()
        return self._maker.error or bool(self._offered)

    def _read(self, data: bytes) -> list[P | Failure | EndOfAnswer]:
        if self._terms.coding == "identity":
            return self._cleaned(self._reader.feed(data))
        try:
            self._decoder = self._decoder or ContentDecoder(self._terms.coding)
            return self._cleaned(self._reader.feed(self._decoder.feed(data)))
        except ValueError as error:
            return [Failure(f"The upstream's answer cannot be decoded: {error}", "server_error")]

    def _cleaned(self, parts: list[P | Failure | EndOfAnswer]) -> list[P | Failure | EndOfAnswer]:
        """Nothing follows a failure, so it is the last part."""
        if parts and isinstance(failure := parts[-1], Failure):
            parts[-1] = self._terms.clean(failure)
        return parts


class MendingReader:
    """Reads an answer whose server let thoughts and calls through as text."""

    def __init__(self, leaks: Leaks) -> None:
        self._reader = AnswerReader()
        self._leaks = leaks

    def feed(self, data: bytes) -> list[ChatChunk | Failure | EndOfAnswer]:
        return self._leaks.feed(self._reader.feed(data))

    def end(self) -> list[ChatChunk | Failure | EndOfAnswer]:
        return [*self._leaks.feed(self._reader.end()), *self._leaks.end()]

    def rest(self) -> list[ChatChunk | Failure | EndOfAnswer]:
        """What was held back as a possible tag."""
        return self._leaks.end()


class MendedAnswering(Answering[ChatChunk]):
    """A Chat answer of a server that lets thoughts and calls through as text."""

    def __init__(
        self, reader: MendingPartReader[ChatChunk], assembler: Assembler, terms: Terms
    ) -> None:
        self._mending = reader
        super().__init__(self._mending, assembler, terms)

    def broken(self, lost: Failure) -> bytes:
        return self._maker.feed(self._mending.rest()) + super().broken(lost)


class ChatAnswering(Answering[ChatChunk | Run]):
    """A Chat answer, most of whose chunks differ in their text alone."""

    def __init__(self, assembler: Assembler, terms: Terms) -> None:
        super().__init__(QuickReader(), assembler, terms)
        self._assembler = assembler

    def feed(self, data: bytes) -> bytes:
        if self._terms.coding != "identity":
            return super().feed(data)
        parts = self._reader.feed(data)
        # What nearly every read brings.
        if len(parts) == 1 and isinstance(run := parts[0], Run):
            return self._assembler.go_on(run)
        return self._assembler.feed(self._cleaned(parts))
