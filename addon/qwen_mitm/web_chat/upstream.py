"""What the addon sees of the web chat: it makes an attempt ready, and is told how that ended.

The message itself goes out over mitmproxy's own connection, as for all accounts. What has to come
before it, a chat, is made here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qwen_mitm.accounts.model import WEB_CHAT_URL, Account
from qwen_mitm.exchange import Broken, FailedAnswer, Outcome, Refused, Send
from qwen_mitm.wire.chat_request import ChatRequest
from qwen_mitm.wire.encoding import decoded

from .credentials import CredentialStore, StoredCredentials
from .database import Database, DatabaseFault, database_path
from .envelope import completion_payload, completion_target, request_headers
from .errors import (
    LOGIN,
    ChainBroken,
    CredentialsExpired,
    CredentialsMissing,
    ProtocolChanged,
    Unavailable,
    WebChatError,
    refused,
)
from .prefix import conversation_key, key_after, prefix_key
from .prompt import first_message, next_message
from .reader import Said, WebChatReader
from .retry import RetryPolicy
from .sessions import Session, Sessions

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

#: Other accounts may be asked meanwhile, so there is no point in trying long.
POLICY = RetryPolicy(most=2, first_s=0.5, longest_s=2.0)
#: A 404 that tells no more may mean a chat that was deleted at the site.
_UNCLEAR = (ProtocolChanged, Unavailable)


class WebChat:
    """A :class:`~qwen_mitm.preparing.Preparer` for accounts of the kind ``web_chat``."""

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
        new_uuid: Callable[[], str] = lambda: str(uuid.uuid4()),
        http: Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = Database(database_path(env))
        self.credentials = CredentialStore(self._database, now)
        self.sessions = Sessions(self._database, now)
        self._env = env
        self._now = now
        self._new_uuid = new_uuid
        self._http = http
        self._sleep = sleep
        self._chance = chance

    def close(self) -> None:
        self._database.close()

    def adopt_environment(self) -> None:
        """Keep ``QWEN_TOKEN`` and ``QWEN_COOKIES``, when both are set; a fault is a warning."""
        try:
            if self.credentials.adopt(self._env) is not None:
                logger.info("qwen-mitm: took the web chat's credentials from the environment.")
        except WebChatError as error:
            logger.warning("qwen-mitm: %s", error.message)
        except ValueError:
            # Its words might quote what was set.
            logger.warning("qwen-mitm: QWEN_TOKEN and QWEN_COOKIES are not usable; see the README.")

    async def prepare(self, chat: ChatRequest, account: Account) -> PreparedTurn:
        """Find the chat that goes on, or make one.

        Raises:
            WebChatError: there is none.
        """
        credentials = self._usable(account)
        self._database.keep_open()
        prefix = prefix_key(chat)
        session = self.sessions.claim(account.name, prefix) if prefix else None
        if session is None:
            session = await self._new_session(chat, account, credentials)
        return PreparedTurn(self, chat, account, credentials, session)

    def _usable(self, account: Account) -> StoredCredentials:
        found = self.credentials.get(account.credential_id)
        if found is not None:
            return found
        if self.credentials.has(account.credential_id):
            raise CredentialsExpired(f"The web chat's credentials are expired. {LOGIN}")
        raise CredentialsMissing(f"There are no credentials for the web chat. {LOGIN}")

    async def _new_session(
        self, chat: ChatRequest, account: Account, credentials: StoredCredentials
    ) -> Session:
        base_url = account.endpoint(WEB_CHAT_URL)
        # It brings httpx, which takes a tenth of a second; the streams go on meanwhile.
        await asyncio.to_thread(import_module, "qwen_mitm.web_chat.client")
        from .client import WebChatClient, open_http

        async with (self._http or open_http)() as http:
            client = WebChatClient(
                http,
                base_url,
                credentials,
                POLICY,
                now=self._now,
                sleep=self._sleep,
                chance=self._chance,
            )
            chat_id = await client.create_chat(model=chat.model, key=conversation_key(chat))
        return self.sessions.open(account.name, chat_id)

    def send_of(
        self,
        chat: ChatRequest,
        account: Account,
        credentials: StoredCredentials,
        session: Session,
    ) -> Send:
        """The message of this turn, on its way to its chat."""
        content = first_message(chat) if session.parent_id is None else next_message(chat)
        payload = completion_payload(
            chat,
            credentials,
            content,
            chat_id=session.chat_id,
            parent_id=session.parent_id,
            fid=self._new_uuid(),
            now_s=int(self._now()),
        )
        parts = urlsplit(account.endpoint(WEB_CHAT_URL))
        headers = request_headers(credentials, streams=True)
        return Send(
            account=account.name,
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            target=parts.path.rstrip("/") + completion_target(session.chat_id),
            headers=tuple((name.encode(), value.encode()) for name, value in headers.items()),
            body=payload.encoded(),
            secrets=credentials.secrets,
        )


class PreparedTurn:
    """A turn that has its chat for itself until it ends."""

    def __init__(
        self,
        site: WebChat,
        chat: ChatRequest,
        account: Account,
        credentials: StoredCredentials,
        session: Session,
    ) -> None:
        self._sessions = site.sessions
        self._chat = chat
        self._account = account.name
        self._credentials = credentials
        self._session = session
        self._settled = False
        self.send = site.send_of(chat, account, credentials, session)
        calls = chat.tools if chat.tool_choice != "none" else ()
        self.reader = WebChatReader(
            offered={tool.name: tool.parameters for tool in calls},
            on_end=self._settle,
            redact=credentials.redact,
        )

    def ended(self, outcome: Outcome | None) -> WebChatError | None:
        error = self._error(outcome)
        if error is not None:
            error.message = self._credentials.redact(error.message)
        # A chat that has not begun cannot have lost its chain: another one would be no better.
        is_lost = isinstance(error, ChainBroken) and self._session.parent_id is not None
        if error is not None:
            error.again = is_lost
        if not self._settled:
            self._settled = True
            self._safely(self._sessions.forget if is_lost else self._sessions.release)
        return error

    def _error(self, outcome: Outcome | None) -> WebChatError | None:
        match outcome:
            case Refused(status, headers, body):
                coding = headers.get("content-encoding", "identity")
                error = refused(status, headers, decoded(body, coding))
                if status == 404 and self._session.parent_id and type(error) in _UNCLEAR:
                    return ChainBroken(f"chat.qwen.ai no longer has this chat: {error.message}")
                return error
            case FailedAnswer() | None:
                return self.reader.trouble
            case Broken():
                return None

    def _settle(self, said: Said) -> None:
        """The conversation goes on from here, before the client can have read the last word."""
        self._settled = True
        is_said = said.message.content.strip() or said.message.tool_calls
        if said.parent_id is None or not is_said:
            self._safely(self._sessions.release)
            return
        key, parent_id = key_after(self._chat, said.message), said.parent_id
        self._safely(lambda chat: self._sessions.settle(self._account, chat, key, parent_id))

    def _safely(self, act: Callable[[str], None]) -> None:
        """An answer is not lost because its chat cannot be written down: the next one is new."""
        try:
            act(self._session.chat_id)
        except DatabaseFault as error:
            logger.warning("qwen-mitm: %s", error.message)
