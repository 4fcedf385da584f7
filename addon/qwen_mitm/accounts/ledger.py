"""The accounts of this process: on disk, what was learned since, and what is still to be written.

Choosing touches no disk but for a look at the file's stamp, at most once a second. Writing happens
in one thread, off the event loop, through the file's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from qwen_mitm.daemon_pool import DaemonPool
from qwen_mitm.errors import BridgeError
from qwen_mitm.settings import Settings

from .cooldown import ALL_MODELS, Cooldown, DayUsage
from .model import Account, AccountFile
from .pool import Pool
from .store import AccountStore, embedded_accounts
from .verdicts import Verdict

logger = logging.getLogger(__name__)

#: The file is looked at again after so many ms.
LOOK_EVERY_MS = 1000
#: Usage is written that often; more would make all processes read the file again.
WRITE_USAGE_EVERY_MS = 30_000

type Change = Callable[[Account], Account]


class Ledger:
    """Accounts and their pool. Used on one event loop; ``close`` writes what is left."""

    def __init__(
        self,
        store: AccountStore,
        settings: Callable[[], Settings],
        env: Mapping[str, str],
        clock_ms: Callable[[], int],
        *,
        start: int = 0,
        has_twins: bool = False,
    ) -> None:
        self.store = store
        self.pool = Pool(start=start, has_twins=has_twins)
        self._settings = settings
        self._env = env
        self._clock_ms = clock_ms
        self._looked_at: int | None = None
        self._embedded: tuple[str, tuple[Account, ...]] = ("", ())
        self._writer = DaemonPool(1, "qwen-accounts")
        self._used: dict[str, DayUsage] = {}
        self._usage_written_at = clock_ms()
        self._last_write: Future[None] | None = None

    def accounts(self) -> Sequence[Account]:
        """The accounts; the same object until something changed.

        Raises:
            NoUsableAccount: as AccountStore.accounts().
        """
        base_url = self._settings().base_url
        if self._embedded[0] != base_url:
            self._embedded = (base_url, embedded_accounts(self._env, self._settings()))
        if self._embedded[1]:
            return self._embedded[1]
        now = self._clock_ms()
        looked_at = self._looked_at
        if looked_at is not None and 0 <= now - looked_at < LOOK_EVERY_MS:
            return self.store.cached()
        # Asked before reading: what is then being written may be missing from the file.
        self.pool.writing = self.is_writing
        accounts = self.store.accounts()
        self._looked_at = now
        return accounts

    @property
    def is_embedded(self) -> bool:
        """The one account is that of the environment, and the file is not read."""
        return bool(embedded_accounts(self._env, self._settings()))

    def look_again(self) -> None:
        """The file was changed by this process: the next question reads it."""
        self._looked_at = None

    def learn(self, name: str, model: str, verdict: Verdict, sent_at: int) -> None:
        """How an attempt ended; counts at once, and is written in the background."""
        change = self.pool.note(name, model, verdict, self._clock_ms(), sent_at=sent_at)
        if verdict.reason is not None:
            logger.info(
                "qwen-mitm: account %s: %s%s",
                name,
                verdict.kind,
                f" ({model})" if verdict.scope == "model" else "",
            )
        if change is not None:
            self._write({name: change})

    def used(self, name: str, tokens: int) -> None:
        """An account answered a request."""
        now = self._clock_ms()
        today = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
        before = self._used.get(name)
        if before is None or before.date != today:
            before = DayUsage(date=today)
        self._used[name] = before.model_copy(
            update={"requests": before.requests + 1, "tokens": before.tokens + tokens}
        )
        if now - self._usage_written_at >= WRITE_USAGE_EVERY_MS:
            self._write_usage(now)

    def views(self) -> list[Account]:
        """The accounts with what was learned since they were read.

        Raises:
            NoUsableAccount: as AccountStore.accounts().
        """
        return [self.pool.view(account) for account in self.accounts()]

    def describe(self) -> list[str]:
        """A line for each account: name, kind, state and until when.

        Raises:
            NoUsableAccount: as AccountStore.accounts().
        """
        return [self._line(account) for account in self.views()]

    def _line(self, account: Account) -> str:
        kind = "API key" if account.is_api_key else "web chat" if account.is_web_chat else "OAuth"
        if account.disabled:
            state = "disabled"
        elif account.needs_login:
            state = "needs login"
        else:
            now = self._clock_ms()
            found = account.cooldowns.items()
            limits = [_words(model, limit) for model, limit in found if not limit.is_over(now)]
            state = "; ".join(limits) or "ok"
        return f"{account.name} · {kind} · {state}"

    def clear(self, name: str | None) -> Future[None]:
        """Forget the cooldowns of one account, or of all."""
        now = self._clock_ms()
        names = [a.name for a in self.accounts() if name is None or a.name == name]
        for one in names:
            self.pool.forget(one, now)
        return self._write(dict.fromkeys(names, _without_cooldowns))

    @property
    def is_writing(self) -> bool:
        return self._last_write is not None and not self._last_write.done()

    def finish(self) -> None:
        """Begin to write what is left. ``is_writing`` says whether that is done."""
        self._write_usage(self._clock_ms())
        self._writer.shutdown(wait=False)

    def close(self) -> None:
        """Write what is left; blocks for as long as that takes."""
        self.finish()
        self._writer.shutdown(wait=True)

    def _write_usage(self, now: int) -> None:
        self._usage_written_at = now
        used, self._used = self._used, {}
        if used:
            self._write({name: _adding(usage, now) for name, usage in used.items()})

    def _write(self, changes: Mapping[str, Change]) -> Future[None]:
        if self._embedded[1]:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        self._last_write = self._writer.submit(self._update, changes)
        return self._last_write

    def _update(self, changes: Mapping[str, Change]) -> None:
        def change(file: AccountFile) -> AccountFile:
            for name, how in changes.items():
                file = file.change(name, how)
            return file

        try:
            self.store.update(change)
        except BridgeError as error:
            # What was learned still counts in this process.
            logger.warning("qwen-mitm: %s", error.message)


def _words(model: str, limit: Cooldown) -> str:
    what = limit.reason if model == ALL_MODELS else f"{limit.reason} ({model})"
    if limit.until is None:
        return what
    return f"{what} until {datetime.fromtimestamp(limit.until / 1000, UTC):%d %b %H:%M} UTC"


def _without_cooldowns(account: Account) -> Account:
    return account.model_copy(update={"cooldowns": {}, "rate_limit_reset_at": None})


def _adding(usage: DayUsage, now: int) -> Change:
    def change(account: Account) -> Account:
        total = usage
        if account.usage is not None and account.usage.date == usage.date:
            total = account.usage.model_copy(
                update={
                    "requests": account.usage.requests + usage.requests,
                    "tokens": account.usage.tokens + usage.tokens,
                }
            )
        return account.model_copy(update={"usage": total, "last_used": now})

    return change
