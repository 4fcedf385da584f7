"""The web chat, for those who have an account of it: without one nothing is imported or kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from qwen_mitm.accounts.model import Account
from qwen_mitm.preparing import Prepared
from qwen_mitm.wire.chat_request import ChatRequest

if TYPE_CHECKING:
    from .upstream import WebChat


class WebChatOnDemand:
    """A :class:`~qwen_mitm.preparing.Preparer` that begins with the first account it is shown."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._begun: WebChat | None = None

    def begin(self, accounts: Iterable[Account]) -> None:
        """Take the credentials of the environment, when one of the accounts may use them."""
        if any(account.is_web_chat for account in accounts):
            self._web_chat()

    async def prepare(self, chat: ChatRequest, account: Account) -> Prepared:
        return await self._web_chat().prepare(chat, account)

    def close(self) -> None:
        if self._begun is not None:
            self._begun.close()

    def _web_chat(self) -> WebChat:
        if self._begun is None:
            from .upstream import WebChat

            self._begun = WebChat(self._env)
            self._begun.adopt_environment()
        return self._begun
