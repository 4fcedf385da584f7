"""What the failover layer asks: where the next attempt goes, or what the client gets instead.

A request is tried with one account after the other until one answers. It waits when all of them
are limited for a short while, and ends with the upstream's own words when nobody else can be asked.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from urllib.parse import urlsplit

from qwen_mitm.accounts.cooldown import ALL_MODELS
from qwen_mitm.accounts.exhausted import exhausted_error
from qwen_mitm.accounts.ledger import Ledger
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.outcomes import Facts, classify
from qwen_mitm.accounts.verdicts import OK, Verdict
from qwen_mitm.errors import (
    BridgeError,
    NoUsableAccount,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from qwen_mitm.exchange import (
    Broken,
    Decision,
    FailedAnswer,
    GiveUp,
    Outcome,
    Refused,
    Send,
    Wait,
)
from qwen_mitm.oauth.errors import NeedsLogin, OAuthError
from qwen_mitm.oauth.refresh import Refresher
from qwen_mitm.outgoing import Outgoing, Progress
from qwen_mitm.preparing import AccountTrouble, Preparer
from qwen_mitm.providers import WEB_CHAT, Dialect, Profile, profile_for
from qwen_mitm.redaction import redact_error
from qwen_mitm.settings import Settings
from qwen_mitm.translate.demands import Demands
from qwen_mitm.translate.failure import failure_error
from qwen_mitm.wire.chat import Failure

#: Resends on a fresh connection after one that had been idle was closed under the request.
STALE_CONNECTION_RETRIES = 1
#: Accounts that one request may ask. Each that fails is left alone by the requests after it.
MOST_ATTEMPTS = 32
#: Seconds that a question may wait for a refresh: the client gets no heartbeat meanwhile.
PATIENCE_S = 2.0
#: Seconds until the next look at what is under way elsewhere.
GLANCE_S = 0.25
#: Who waits looks that often whether an account was added or enabled.
LOOK_S = 1.0
SHORTEST_S = 0.02
#: Failures of hosts. Waiting here as well would multiply the client's own retries.
PASSING = frozenset({"transient", "free", "out"})


class Attempts:
    """Decides attempt after attempt of each request, and learns from how they end."""

    def __init__(
        self,
        ledger: Ledger,
        refresher: Refresher,
        settings: Callable[[], Settings],
        clock_ms: Callable[[], int],
        preparer: Preparer,
    ) -> None:
        self._ledger = ledger
        self._preparer = preparer
        self._refresher = refresher
        self._settings = settings
        self._clock_ms = clock_ms
        self._progress: weakref.WeakKeyDictionary[Outgoing, Progress] = weakref.WeakKeyDictionary()

    def first_dialect(self, model: str, demands: Demands) -> Dialect:
        """How an account is spoken to that such a request may try first.

        Raises:
            NoUsableAccount: there is none.
        """
        dialects = [self._dialect(account, model) for account in self._candidates()]
        if not dialects:
            raise NoUsableAccount(
                "No account can be used: each is disabled or needs a new login. `qwen-mitm "
                "accounts` lists them, `qwen-mitm login` adds one."
            )
        return min(dialects, key=demands.unmet)

    async def next(self, outgoing: Outgoing) -> Decision:
        """The next step of a request, whose ``outcome`` tells how the last one ended."""
        progress = self._progress.setdefault(outgoing, Progress())
        try:
            decision = await self._next(outgoing, progress)
            if isinstance(decision, GiveUp):
                self._redact(decision.error)
        except BridgeError as error:
            return GiveUp(error)
        return decision

    async def _next(self, outgoing: Outgoing, progress: Progress) -> Decision:
        outcome, outgoing.outcome = outgoing.outcome, None
        if outcome is not None and progress.account is not None:
            final = self._judge(outgoing, progress, progress.account, outcome)
            if final is not None:
                return final
        return await self._ask_next(outgoing, progress)

    # How an attempt ended ----------------------------------------------------------------------

    def _judge(
        self, outgoing: Outgoing, progress: Progress, account: Account, outcome: Outcome
    ) -> GiveUp | None:
        trouble = progress.end_attempt(outcome)
        if isinstance(outcome, Broken) and outcome.reused:
            progress.stale_resends += 1
            if progress.stale_resends <= STALE_CONNECTION_RETRIES:
                progress.again = True
                return None
        if trouble is not None and trouble.again:
            progress.again = True
            return None
        error = trouble or self._error(outgoing, account, outcome)
        # Some hosts quote the key that they refuse; the words are kept on disk, too.
        redact_error(error, [account.credential] if account.credential else [])
        verdict = (
            trouble.verdict(self._clock_ms())
            if trouble is not None
            else self._verdict(account, outcome, error, account.name in progress.refreshed)
        )
        progress.last_error = error
        if verdict.kind == "client_fault":
            return GiveUp(error)
        if verdict.kind == "needs_refresh" and not account.is_api_key:
            progress.refreshed.add(account.name)
            progress.rejected = account.access_token
            progress.again = True
            return None
        if verdict.kind == "transient":
            progress.host_error = error
        self._ledger.learn(account.name, outgoing.model, verdict, progress.sent_at)
        progress.passed.add(account.name)
        return GiveUp(error) if progress.asked >= MOST_ATTEMPTS else None

    def _error(self, outgoing: Outgoing, account: Account, outcome: Outcome) -> BridgeError:
        match outcome:
            case Refused():
                limit = self._settings().max_rate_limit_wait_seconds
                return outgoing.refusal(outcome, limit)
            case Broken():
                return _unreachable(outcome, account.name)
            case FailedAnswer(failure):
                return failure_error(failure)

    def _verdict(
        self, account: Account, outcome: Outcome, error: BridgeError, refreshed: bool
    ) -> Verdict:
        status: int | None
        match outcome:
            case Refused(status, headers):
                pass
            case Broken():
                status, headers = None, {}
            case FailedAnswer(failure):
                status, headers = failure.status or 200, {}
        code, type_ = error.told or (error.code, error.type)
        facts = Facts(
            status=status,
            headers=headers,
            message=error.message,
            code=code,
            type=type_,
            provider=self._profile(account).name,
            kind="api_key" if account.is_api_key else "oauth",
            refreshed=refreshed,
        )
        return classify(facts, self._clock_ms())

    # Whom to ask next --------------------------------------------------------------------------

    async def _ask_next(self, outgoing: Outgoing, progress: Progress) -> Decision:
        if progress.resume_at is not None and self._clock_ms() >= progress.resume_at:
            progress.resume_at = None
            progress.passed.clear()
        account = progress.account
        if account is None or not (progress.again or progress.renewal):
            account = self._pick(outgoing, progress)
        while account is not None:
            try:
                fresh = await self._made_ready(outgoing, progress, account)
            except OAuthError as error:
                self._note_refresh_failure(outgoing, progress, account, error)
            except AccountTrouble as error:
                self._note_trouble(outgoing, progress, account, error)
            else:
                if fresh is not None:
                    return self._send(outgoing, progress, fresh)
                progress.passed.add(account.name)
            slow, account = account, self._pick(outgoing, progress)
            if progress.renewal is not None:
                if account is None:
                    progress.passed.discard(slow.name)
                    return Wait(GLANCE_S)
                self._leave_refreshing(outgoing, progress, slow)
        return self._nobody(outgoing, progress)

    def _pick(self, outgoing: Outgoing, progress: Progress) -> Account | None:
        return self._ledger.pool.pick(
            self._ledger.accounts(),
            strategy=self._settings().rotation_strategy,
            model=outgoing.model,
            conversation=outgoing.conversation,
            tried=progress.passed | self._unfit(outgoing),
            now=self._clock_ms(),
        )

    async def _made_ready(
        self, outgoing: Outgoing, progress: Progress, account: Account
    ) -> Account | None:
        """The account, ready to be asked; None: that is still under way."""
        progress.account = account
        if account.is_api_key:
            return account
        patience = 0.0
        if progress.renewal is None:
            patience = PATIENCE_S
            progress.renewal = asyncio.ensure_future(self._errand(outgoing, progress, account))
            progress.renewal.add_done_callback(_look_at)
        # Only the first question waits: while one does, the client gets no heartbeat.
        done, _ = await asyncio.wait({progress.renewal}, timeout=patience)
        if not done:
            return None
        renewal, progress.renewal = progress.renewal, None
        fresh = renewal.result()
        if fresh is not account:
            self._ledger.look_again()
        return fresh

    async def _errand(self, outgoing: Outgoing, progress: Progress, account: Account) -> Account:
        if account.is_web_chat:
            chat = outgoing.chat(self._dialect(account, outgoing.model))
            progress.prepared = await self._preparer.prepare(chat, account)
            return account
        rejected, progress.rejected = progress.rejected, None
        return await self._refresher.fresh(account, rejected_access_token=rejected)

    def _leave_refreshing(self, outgoing: Outgoing, progress: Progress, account: Account) -> None:
        """The refresh goes on without this request, and those after it need not wait for it."""
        if account.is_web_chat and progress.renewal is not None:
            progress.renewal.cancel()
        progress.end_attempt(None)
        progress.renewal = None
        progress.again = False
        doing = "a chat is being made" if account.is_web_chat else "its token is being refreshed"
        verdict = Verdict("transient", message=f"{doing} for long")
        self._ledger.learn(account.name, outgoing.model, verdict, self._clock_ms())

    def _note_refresh_failure(
        self, outgoing: Outgoing, progress: Progress, account: Account, error: OAuthError
    ) -> None:
        progress.again = False
        progress.passed.add(account.name)
        if isinstance(error, NeedsLogin):
            self._ledger.look_again()
            if progress.last_error is None:
                progress.last_error = NoUsableAccount(f"{error.message} Run: qwen-mitm login")
            return
        progress.last_error = progress.host_error = UpstreamUnreachable(error.message)
        verdict = Verdict("transient", message=error.message)
        self._ledger.learn(account.name, outgoing.model, verdict, self._clock_ms())

    def _note_trouble(
        self, outgoing: Outgoing, progress: Progress, account: Account, error: AccountTrouble
    ) -> None:
        progress.again = False
        progress.passed.add(account.name)
        verdict = error.verdict(self._clock_ms())
        if verdict.kind == "client_fault":
            raise error
        progress.last_error = error
        if verdict.kind == "transient":
            progress.host_error = error
        self._ledger.learn(account.name, outgoing.model, verdict, self._clock_ms())

    def _nobody(self, outgoing: Outgoing, progress: Progress) -> Decision:
        now = self._clock_ms()
        accounts = self._ledger.accounts()
        unfit = self._unfit(outgoing)
        candidates = [a for a in self._candidates() if a.name not in unfit]
        exhausted = self._ledger.pool.exhausted(accounts, outgoing.model, now, without=unfit)
        alone = len(candidates) <= 1
        if progress.last_error is not None and (alone or exhausted.reasons <= PASSING):
            return GiveUp(progress.last_error)
        longest = self._settings().max_rate_limit_wait_seconds
        if progress.wait_until is None:
            progress.wait_until = now + longest * 1000
        if exhausted.retry_at is not None and exhausted.retry_at <= progress.wait_until:
            progress.resume_at = exhausted.retry_at
            return Wait(min(LOOK_S, max(SHORTEST_S, (exhausted.retry_at - now) / 1000)))
        if progress.host_error is not None and "transient" in exhausted.reasons:
            return GiveUp(progress.host_error)
        return GiveUp(exhausted_error(exhausted, max_wait_s=longest, now=now, model=outgoing.model))

    def _send(self, outgoing: Outgoing, progress: Progress, account: Account) -> Send:
        progress.account = account
        progress.again = False
        progress.asked += 1
        progress.sent_at = self._clock_ms()
        if progress.prepared is not None:
            outgoing.read_with(progress.prepared.reader)
            return progress.prepared.send
        if account.credential is None:
            raise NoUsableAccount(f"Account {account.name!r} has no token. Run: qwen-mitm login")
        parts = urlsplit(account.endpoint(self._settings().base_url))
        # The one place where a credential leaves its wrapper for the wire.
        bearer = f"Bearer {account.credential.get_secret_value()}".encode()
        dialect = self._dialect(account, outgoing.model)
        request = outgoing.request(parts.path.rstrip("/"), dialect)
        return Send(
            account=account.name,
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            target=request.target,
            headers=(*request.headers, (b"authorization", bearer)),
            body=request.body,
        )

    def _candidates(self) -> list[Account]:
        return [a for a in self._ledger.accounts() if not (a.disabled or a.needs_login)]

    def _unfit(self, outgoing: Outgoing) -> frozenset[str]:
        """Accounts whose hosts do not take all of the request, where those of others do."""
        demands = outgoing.demands
        if not demands:
            return frozenset()
        unmet = {
            a.name: demands.unmet(self._dialect(a, outgoing.model)) for a in self._candidates()
        }
        least = min(unmet.values(), default=0)
        return frozenset(name for name, count in unmet.items() if count > least)

    def _dialect(self, account: Account, model: str) -> Dialect:
        if account.is_web_chat:
            return Dialect(WEB_CHAT)
        return self._profile(account).dialect(account.wire, model)

    def _profile(self, account: Account) -> Profile:
        return profile_for(account.endpoint(self._settings().base_url), account.provider)

    # Afterwards --------------------------------------------------------------------------------

    def accepted(self, outgoing: Outgoing) -> None:
        """The upstream's answer is good so far: the account works."""
        progress = self._progress.get(outgoing)
        if progress is not None and progress.account is not None:
            progress.accepted = True
            # A list of models, say, proves nothing about a quota.
            if outgoing.model != ALL_MODELS:
                self._ledger.learn(progress.account.name, outgoing.model, OK, progress.sent_at)

    def ended(self, outgoing: Outgoing, failure: Failure | None, tokens: int) -> None:
        """The client has its answer; ``failure`` is what broke it off after it had begun."""
        progress = self._progress.pop(outgoing, None)
        if progress is None:
            return
        if progress.renewal is not None and progress.account and progress.account.is_web_chat:
            progress.renewal.cancel()
        trouble = progress.end_attempt(None)
        if progress.account is None or not progress.accepted:
            return
        account = progress.account
        self._ledger.used(account.name, tokens)
        if failure is not None:
            outcome = FailedAnswer(failure)
            error = failure_error(failure)
            verdict = (
                trouble.verdict(self._clock_ms())
                if trouble is not None
                else self._verdict(account, outcome, error, refreshed=False)
            )
            if verdict.reason is not None:
                self._ledger.learn(account.name, outgoing.model, verdict, progress.sent_at)

    def _redact(self, error: BridgeError) -> None:
        """Some hosts quote the key that they refuse."""
        redact_error(error, [a.credential for a in self._ledger.accounts() if a.credential])


def _look_at(renewal: asyncio.Future[Account]) -> None:
    """The request may be gone, and asyncio complains of errors that nobody looked at."""
    if not renewal.cancelled():
        renewal.exception()


def _unreachable(broken: Broken, account: str) -> BridgeError:
    if broken.timed_out:
        return UpstreamTimeout(
            f"The upstream of account {account!r} did not answer: {broken.message}."
        )
    doing = {"connect": "cannot be reached", "head": "hung up", "answer": "broke off"}
    return UpstreamUnreachable(
        f"The upstream of account {account!r} {doing[broken.stage]}: {broken.message}"
    )
