"""Keeping logins alive: one redeem per token, whoever asks and in however many processes.

A refresh token is good once, and using it twice may end the whole login (qwen.md §2.2). So the
account's lock is held from reading the stored token to having stored its successor, and the new
access token is given out after that alone. All of it runs in a thread of its own, which nothing
cancels: a client that goes away must not lose the token that the server has just rotated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import SecretStr

from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.daemon_pool import DaemonPool
from qwen_mitm.errors import BridgeError
from qwen_mitm.settings import Settings

from .errors import NeedsLogin, RefreshFailed
from .messages import TOKEN_PATH, Fault, Fields, Post, Refusal, Reply, Tokens, Unreadable, read
from .transport import open_client, send

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

#: Accounts that one process refreshes at the same time.
MOST_AT_ONCE = 8
#: After a failure, a token that still works is used for so long before the next try.
PAUSE_MS = 30_000

#: Errors that end by themselves, although their status is 400 (RFC 6749 §4.1.2.1, RFC 8628 §3.5).
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down", "rate_limit"})


class Refresher:
    """Gives accounts whose access token is good. One per event loop and account file."""

    patience_s: float = 3.0

    def __init__(
        self,
        store: AccountStore,
        client: Callable[[], httpx.Client],
        settings: Callable[[], Settings],
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._client = client
        self._settings = settings
        self._clock_ms = clock_ms
        self._threads = DaemonPool(MOST_AT_ONCE, "qwen-refresh")
        self._flights: dict[str, asyncio.Future[Account]] = {}
        self._unsaved: dict[str, tuple[SecretStr, Fields]] = {}
        self._paused: dict[str, int] = {}
        self._lifetimes: dict[str, int] = {}

    async def fresh(
        self,
        account: Account,
        *,
        rejected_access_token: SecretStr | None = None,
        force: bool = False,
    ) -> Account:
        """The account with an access token that is not over and is not the rejected one.

        Costs nothing while that is so already. ``force`` redeems in any case, also for an account
        that is marked as needing a login. While the token still works, nobody waits longer than
        ``patience_s`` for the next one, and a failure of the network is logged alone.

        Raises:
            NeedsLogin: its refresh token is no good; that is on disk, and nothing was deleted.
            RefreshFailed: this time; the account is as it was.
        """
        if account.is_api_key or account.is_web_chat:
            return account
        if not force and self._is_good(account, rejected_access_token):
            return account
        may_stay = not force and self._still_works(account, rejected_access_token)
        while True:
            others = self._flights.get(account.name)
            flight = others or self._take_off(account.name, rejected_access_token, force)
            # Unlike await, this does not cancel what others wait for.
            done, _ = await asyncio.wait([flight], timeout=self.patience_s if may_stay else None)
            if not done:
                self._paused[account.name] = self._clock_ms() + PAUSE_MS
                return account
            renewed = flight.result()
            if others is None or renewed.access_token != rejected_access_token:
                return renewed

    @property
    def is_busy(self) -> bool:
        """A redeem is under way, or its token on the way to the disk."""
        return bool(self._flights)

    async def aclose(self) -> None:
        """Wait until every redeem that is under way is on disk."""
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        self._threads.shutdown(wait=False)

    def _take_off(
        self, name: str, rejected: SecretStr | None, force: bool
    ) -> asyncio.Future[Account]:
        loop = asyncio.get_running_loop()
        flight = loop.run_in_executor(self._threads, self._renew, name, rejected, force)
        self._flights[name] = flight

        def landed(flight: asyncio.Future[Account]) -> None:
            del self._flights[name]
            if not flight.cancelled():
                # Those who waited may be gone, and asyncio complains about errors nobody looked at.
                flight.exception()

        flight.add_done_callback(landed)
        return flight

    def _is_good(self, account: Account, rejected: SecretStr | None) -> bool:
        if not self._still_works(account, rejected):
            return False
        settings, now = self._settings(), self._clock_ms()
        if not settings.proactive_refresh or now < self._paused.get(account.name, 0):
            return True
        window = settings.refresh_window_seconds * 1000
        if lifetime := self._lifetimes.get(account.name):
            # A token that lives shorter than the window would be redeemed at each request.
            window = min(window, lifetime // 2)
        return not account.expires_within(window, now)

    def _still_works(self, account: Account, rejected: SecretStr | None) -> bool:
        if not account.access_token or account.access_token == rejected:
            return False
        return not account.expires_within(0, self._clock_ms())

    # In a thread -------------------------------------------------------------------------------

    def _renew(self, name: str, rejected: SecretStr | None, force: bool) -> Account:
        try:
            with self._store.refresh_lock(name):
                return self._renew_locked(name, rejected, force)
        except BridgeError as error:
            raise RefreshFailed(name, error.message.rstrip(".")) from None
        except OSError as error:
            reason = f"the account file: {error.strerror or error}"
            raise RefreshFailed(name, reason) from None

    def _renew_locked(self, name: str, rejected: SecretStr | None, force: bool) -> Account:
        stored = self._stored(name)
        if not force and self._is_good(stored, rejected):
            return stored
        if stored.refresh_token is None:
            self._mark(stored)
            raise NeedsLogin(name, "its token is over and it has no refresh token")
        if stored.needs_login and not force:
            raise NeedsLogin(name, "its refresh token was refused")
        try:
            fields = self._saved_up(stored) or self._redeem(stored, stored.refresh_token)
        except RefreshFailed as error:
            if force or not self._still_works(stored, rejected):
                raise
            logger.warning("qwen-mitm: %s It still works and is used.", error.message)
            self._paused[name] = self._clock_ms() + PAUSE_MS
            return stored
        except NeedsLogin as error:
            # Programs that do not know our lock may have redeemed the same token a moment ago.
            adopted = self._mark(stored)
            if adopted is not None and self._is_good(adopted, rejected):
                return adopted
            logger.warning("qwen-mitm: %s", error.message)
            raise
        return self._keep(stored, stored.refresh_token, fields)

    def _stored(self, name: str) -> Account:
        for account in self._store.accounts():
            if account.name == name:
                return account
        raise RefreshFailed(name, "it is no longer in the account file")

    def _saved_up(self, stored: Account) -> Fields | None:
        """What the server gave for this token when the file could not be written."""
        spent, fields = self._unsaved.get(stored.name, (None, None))
        return fields if spent == stored.refresh_token else None

    def _redeem(self, stored: Account, refresh_token: SecretStr) -> Fields:
        settings = self._settings()
        post = Post(
            settings.oauth_base_url + TOKEN_PATH,
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "client_id": settings.client_id,
            },
        )
        reply = self._send(post)
        said = reply if isinstance(reply, Fault) else read(reply)
        if isinstance(said, Tokens):
            # Zero: unknown.
            self._lifetimes[stored.name] = max(0, said.expires_in or 0) * 1000
            return said.fields(self._clock_ms())
        words = said.words([refresh_token])
        if isinstance(said, Fault) or not _is_final(said):
            raise RefreshFailed(stored.name, words)
        raise NeedsLogin(stored.name, words)

    def _send(self, post: Post) -> Reply:
        try:
            client = self._client()
        except (OSError, ValueError, ImportError) as error:
            return Fault(f"the certificates or the proxy of the environment: {error}")
        with client:
            return send(client, post)

    def _keep(self, stored: Account, spent: SecretStr, fields: Fields) -> Account:
        """Write the tokens, then give them out.

        When the file cannot be written they are kept for the next try, since the old one is spent.
        """
        self._unsaved[stored.name] = (spent, fields)
        name = stored.name

        def change(file: AccountFile) -> AccountFile:
            nonlocal name
            # The same login, whatever it is called by now. When it has another token, somebody
            # logged in anew meanwhile, and that one counts.
            same = (account for account in file.accounts if account.refresh_token == spent)
            name = next((account.name for account in same), "")
            return file.change(name, lambda account: account.model_copy(update=fields))

        file = self._store.update(change)
        self._unsaved.pop(stored.name, None)
        kept = file.find(name or stored.name)
        if kept is None:
            raise RefreshFailed(stored.name, "it is no longer in the account file")
        logger.info("qwen-mitm: refreshed the token of account %r.", kept.name)
        return kept

    def _mark(self, stored: Account) -> Account | None:
        """Mark it on disk; when it has another refresh token by now, the account as it is."""

        def change(account: Account) -> Account:
            if account.refresh_token != stored.refresh_token:
                return account
            return account.model_copy(update={"needs_login": True})

        file = self._store.update(lambda file: file.change(stored.name, change))
        now = file.find(stored.name)
        return now if now and now.refresh_token != stored.refresh_token else None


def _is_final(said: Refusal | Unreadable) -> bool:
    if isinstance(said, Unreadable):
        # A page is by something between us and the server, which has not seen the token.
        return said.status in (400, 401) and not said.page
    if said.error == "invalid_grant":
        return True
    return said.status in (400, 401) and said.error not in _PASSING


__all__ = ["Refresher", "open_client"]
