"""A request to another path of a claimed host, on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from qwen_mitm.errors import BridgeError, NoUsableAccount
from qwen_mitm.exchange import (
    Answer,
    Broken,
    HeaderFields,
    HttpRequest,
    Refused,
)
from qwen_mitm.headers import CREDENTIALS, HOP_BY_HOP
from qwen_mitm.journey import Journey
from qwen_mitm.providers import Dialect
from qwen_mitm.redaction import redacted_bytes
from qwen_mitm.translate.answering import MendingPartReader
from qwen_mitm.translate.demands import Demands
from qwen_mitm.translate.failure import refusal
from qwen_mitm.wire.chat import ChatChunk
from qwen_mitm.wire.chat_request import ChatRequest
from qwen_mitm.wire.encoding import decoded

_OF_THE_CODED_BODY = frozenset({b"content-length", b"content-encoding"})


class PassedOn(BridgeError):
    """An upstream's refusal that passes as it came: status, headers and body."""

    def __init__(
        self, told: BridgeError, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        kept = {
            name: value
            for name, value in headers.items()
            if name.encode() not in HOP_BY_HOP | _OF_THE_CODED_BODY and name != "retry-after"
        }
        super().__init__(
            told.message, param=told.param, code=told.code, headers=kept | told.headers
        )
        self.status = status
        self.type = told.type
        self.told = told.told
        self._body = body

    def body(self) -> bytes:
        return self._body


class Relay(Journey):
    """A request to another path of a claimed host: untouched, but sent with an account."""

    model = "*"
    """Its cooldowns are those of the account as a whole."""
    conversation = None
    demands = Demands(passing=True)
    streams = True
    beats = False
    finished = False
    ending = False

    def __init__(
        self,
        *,
        path: str,
        client_fields: HeaderFields,
        content: bytes,
        clock: Callable[[], float],
        heartbeat_s: int,
        timeout_s: int,
        recording_limit: int,
    ) -> None:
        super().__init__(
            clock=clock,
            heartbeat_s=heartbeat_s,
            timeout_s=timeout_s,
            recording_limit=recording_limit,
        )
        self._path = path
        self._client_fields = client_fields
        self._content = content
        self._status = 200

    def request(self, base_path: str, dialect: Dialect) -> HttpRequest:
        dropped = HOP_BY_HOP | CREDENTIALS | {b"content-length"}
        fields = tuple(field for field in self._client_fields if field[0].lower() not in dropped)
        return HttpRequest(self._target(base_path), fields, self._content)

    def chat(self, dialect: Dialect) -> ChatRequest:
        """Raises NoUsableAccount: such a host has other paths."""
        raise NoUsableAccount(
            "Accounts of the web chat answer Responses requests alone. For other paths add an "
            "account with an API key: qwen-mitm login"
        )

    def read_with(self, reader: MendingPartReader[ChatChunk]) -> None:
        """Never: its answers are not read."""

    def _target(self, base_path: str) -> str:
        """The client's ``/v1`` stands for the account's base path."""
        if self._path == "/v1" or self._path.startswith(("/v1/", "/v1?")):
            return base_path + self._path.removeprefix("/v1")
        return self._path

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        """The upstream's own answer, but for a key that it quotes."""
        body = decoded(refused.body, refused.headers.get("content-encoding", "identity"))
        body = redacted_bytes(body, self._secrets)
        told = refusal(refused.status, refused.headers, body, max_retry_after=max_retry_after)
        return PassedOn(told, refused.status, refused.headers, body)

    def head(self, status: int, fields: HeaderFields) -> Literal["refuse", "offer", "accept"]:
        self.note_head(status, fields)
        self._status = status
        # What is about the account and not about the request: another one may do better.
        about_the_account = status in (401, 402, 403, 429) or status >= 500
        return "refuse" if about_the_account else "accept"

    def offer(self, data: bytes) -> bool:
        return True

    def offer_end(self) -> bool:
        return True

    def open(self) -> Answer:
        fields = tuple(f for f in self.upstream_fields if f[0].lower() not in HOP_BY_HOP)
        return Answer(self._status, fields)

    def accepted(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> bytes:
        self._first_event()
        self.recording.add(data)
        return data

    def end(self) -> bytes:
        return b""

    def broken(self, outcome: Broken) -> None:
        self.note_failure(outcome.message)

    def fail(self, error: BridgeError) -> bytes:
        return b""

    def heartbeat(self) -> bytes:
        return b""
