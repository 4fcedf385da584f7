"""A request on its way to an account, and what is remembered of that from attempt to attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.errors import BridgeError
from qwen_mitm.exchange import HttpRequest, Outcome, Refused
from qwen_mitm.preparing import AccountTrouble, Prepared
from qwen_mitm.providers import Dialect
from qwen_mitm.translate.answering import MendingPartReader
from qwen_mitm.translate.demands import Demands
from qwen_mitm.wire.chat import ChatChunk
from qwen_mitm.wire.chat_request import ChatRequest


class Outgoing(Protocol):
    """A request on its way to an account."""

    outcome: Outcome | None

    @property
    def model(self) -> str:
        """What cooldowns of a model are about; ``*`` where no model is asked."""

    @property
    def conversation(self) -> str | None:
        """The conversation that it belongs to, for the strategy ``sticky``."""

    @property
    def demands(self) -> Demands:
        """What decides which hosts may be asked at all."""

    def request(self, base_path: str, dialect: Dialect) -> HttpRequest:
        """The request as a host wants it whose accounts have this base path.

        Raises:
            BridgeError: the client's answer instead.
        """

    def chat(self, dialect: Dialect) -> ChatRequest:
        """The same for a host whose requests are made ready by a :class:`Preparer`.

        Raises:
            BridgeError: the client's answer instead.
        """

    def read_with(self, reader: MendingPartReader[ChatChunk]) -> None:
        """The answer to that request is read by this."""

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        """The client's answer for an upstream's refusal."""


@dataclass(slots=True)
class Progress:
    """What is remembered from one attempt of a request to the next. Times are ms since 1970."""

    asked: int = 0
    passed: set[str] = field(default_factory=set)
    """Accounts that are not asked again."""
    account: Account | None = None
    """That of the last attempt."""
    again: bool = False
    """The next attempt is with the same account."""
    sent_at: int = 0
    stale_resends: int = 0
    rejected: SecretStr | None = None
    """The access token that the upstream has just refused."""
    refreshed: set[str] = field(default_factory=set)
    """Accounts whose token was redeemed because the upstream had refused it."""
    renewal: asyncio.Future[Account] | None = None
    """What takes longer than one question may: a refresh, or making a request ready."""
    prepared: Prepared | None = None
    """The attempt that is under way, or about to be, where that needs more than an account."""
    last_error: BridgeError | None = None
    """The client's answer, if it were to end here."""
    host_error: BridgeError | None = None
    """That of the last host that failed without a limit."""
    accepted: bool = False
    wait_until: int | None = None
    resume_at: int | None = None
    """When those who were asked already may be asked again."""

    def end_attempt(self, outcome: Outcome | None) -> AccountTrouble | None:
        """The attempt is over; what was wrong, if its upstream tells more than the outcome."""
        prepared, self.prepared = self.prepared, None
        return None if prepared is None else prepared.ended(outcome)
