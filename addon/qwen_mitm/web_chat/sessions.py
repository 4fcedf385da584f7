"""Which chat of the site goes on with which conversation, in SQLite (web-chat.md §6).

A chat is found by the whole prefix of a conversation (prefix.py). One turn at a time has it: who
finds it claimed begins a new chat with the full history, and waits for nobody. A claim is over by
itself when the process that holds it dies. A turn that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .database import Database

#: A chat that is not gone on with for so long is forgotten here.
TIMEOUT_S: Final = 30 * 60
#: How often those are cleared away.
CLEANUP_S: Final = 10 * 60
#: A claim that is older is one of a process that died.
CLAIM_S: Final = 15 * 60


@dataclass(frozen=True, slots=True)
class Session:
    """A chat, and the message that the next one follows; None: it has none yet."""

    chat_id: str
    parent_id: str | None


class Sessions:
    """The chats of all accounts. Everything blocks, for milliseconds; raises ``DatabaseFault``."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self._cleaned_at: float | None = None

    def claim(self, account: str, prefix: str) -> Session | None:
        """The chat that has this prefix, for this turn alone; None: there is none, or it is busy.

        Its thirty minutes begin anew.
        """
        now = int(self._now())
        self._clean_up_if_due(now)
        with self._database.transaction() as rows:
            found = rows.execute(
                "SELECT chat_id, parent_id FROM turns JOIN sessions USING (chat_id) WHERE "
                "turns.account = ? AND prefix = ? AND expires_at > ? AND claimed_until <= ?",
                (account, prefix, now, now),
            ).fetchone()
            if found is None:
                return None
            rows.execute(
                "UPDATE sessions SET claimed_until = ?, last_accessed = ?, expires_at = ? "
                "WHERE chat_id = ?",
                (now + CLAIM_S, now, now + TIMEOUT_S, found[0]),
            )
        return Session(*found)

    def open(self, account: str, chat_id: str) -> Session:
        """A chat that was just made, claimed by its first turn."""
        now = int(self._now())
        self._clean_up_if_due(now)
        with self._database.transaction() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO sessions (chat_id, account, created_at, last_accessed, "
                "expires_at, claimed_until) VALUES (?, ?, ?, ?, ?, ?)",
                (chat_id, account, now, now, now + TIMEOUT_S, now + CLAIM_S),
            )
        return Session(chat_id, None)

    def settle(self, account: str, chat_id: str, prefix: str, parent_id: str) -> None:
        """The turn is complete: the conversation goes on from here, and the chat is free again."""
        now = int(self._now())
        with self._database.transaction() as rows:
            known = rows.execute(
                "UPDATE sessions SET claimed_until = 0, last_accessed = ?, expires_at = ?, "
                "message_count = message_count + 1 WHERE chat_id = ?",
                (now, now + TIMEOUT_S, chat_id),
            )
            if known.rowcount:
                rows.execute(
                    "INSERT OR REPLACE INTO turns (account, prefix, chat_id, parent_id) "
                    "VALUES (?, ?, ?, ?)",
                    (account, prefix, chat_id, parent_id),
                )

    def release(self, chat_id: str) -> None:
        """The turn came to nothing: the chain is as it was, and the chat is free again.

        A chat without any turn is forgotten.
        """
        with self._database.transaction() as rows:
            rows.execute("UPDATE sessions SET claimed_until = 0 WHERE chat_id = ?", (chat_id,))
            rows.execute("DELETE FROM sessions WHERE chat_id = ? AND message_count = 0", (chat_id,))

    def forget(self, chat_id: str) -> None:
        """The site does not know the chat, or its messages, any more."""
        with self._database.transaction() as rows:
            rows.execute("DELETE FROM sessions WHERE chat_id = ?", (chat_id,))

    def clean_up(self) -> int:
        """Forget what was not gone on with; how many chats these were."""
        now = int(self._now())
        self._cleaned_at = now
        with self._database.transaction() as rows:
            gone = rows.execute(
                "DELETE FROM sessions WHERE expires_at <= ? AND claimed_until <= ?", (now, now)
            )
            return gone.rowcount

    def _clean_up_if_due(self, now: int) -> None:
        if self._cleaned_at is None or not 0 <= now - self._cleaned_at < CLEANUP_S:
            self.clean_up()
