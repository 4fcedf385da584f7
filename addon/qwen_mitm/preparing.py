"""Accounts whose host wants something else than a Chat request: what is asked of their upstream.

Such an upstream makes the request ready, reads the answer as one of Chat Completions, and says what
a failure means. The rest (whom to ask next, waiting, streaming) is the same for all accounts.
"""

from __future__ import annotations

from typing import Protocol

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.verdicts import Verdict
from qwen_mitm.errors import BridgeError
from qwen_mitm.exchange import Outcome, Send
from qwen_mitm.translate.answering import MendingPartReader
from qwen_mitm.wire.chat import ChatChunk
from qwen_mitm.wire.chat_request import ChatRequest


class AccountTrouble(BridgeError):
    """The client's answer, and what it says about the account."""

    again = False
    """The same account may be asked once more, at once."""

    def verdict(self, now: int) -> Verdict:
        """``now`` in ms since 1970."""
        raise NotImplementedError


class Prepared(Protocol):
    """One attempt that is ready to be sent."""

    @property
    def send(self) -> Send: ...

    @property
    def reader(self) -> MendingPartReader[ChatChunk]:
        """Reads the answer to this attempt and to no other."""

    def ended(self, outcome: Outcome | None) -> AccountTrouble | None:
        """The attempt is over: called once, with what came of it instead of an answer.

        Unless the answer was complete, the attempt leaves nothing behind. None: all is well, or
        nothing tells what is wrong.
        """


class Preparer(Protocol):
    async def prepare(self, chat: ChatRequest, account: Account) -> Prepared:
        """Do what has to be done before this can be sent. May be cancelled.

        Raises:
            BridgeError: it cannot be; an AccountTrouble tells what is wrong with the account.
        """
