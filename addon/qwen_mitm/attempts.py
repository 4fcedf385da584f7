"""What the failover layer asks: where the next attempt goes, or what the client gets instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.pool import pick
from qwen_mitm.errors import (
    BridgeError,
    NoUsableAccount,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from qwen_mitm.exchange import Broken, Decision, FailedAnswer, GiveUp, Outcome, Refused, Send
from qwen_mitm.providers import Profile, profile_for
from qwen_mitm.settings import Settings
from qwen_mitm.translate.failure import failure_error

#: Resends on a fresh connection after one that had been idle was closed under the request.
STALE_CONNECTION_RETRIES = 1


class Outgoing(Protocol):
    """A request on its way to an account."""

    outcome: Outcome | None
    tried: list[str]
    """Names of the accounts that this request was sent with."""

    def target(self, base_path: str) -> str:
        """The request target under an account's base path."""

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The headers, but for the credential."""

    def body(self, profile: Profile) -> bytes:
        """The body in the form that this provider wants."""

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        """The client's answer for an upstream's refusal."""


class Attempts:
    """Decides attempt after attempt of each request."""

    def __init__(
        self, accounts: Callable[[], Sequence[Account]], settings: Callable[[], Settings]
    ) -> None:
        self._accounts = accounts
        self._settings = settings

    async def next(self, outgoing: Outgoing) -> Decision:
        """The next step of a request, whose ``outcome`` tells how the last one ended."""
        try:
            decision = self._decide(outgoing)
            if isinstance(decision, GiveUp):
                self._redact(decision.error)
        except BridgeError as error:
            return GiveUp(error)
        return decision

    def _redact(self, error: BridgeError) -> None:
        """Some hosts quote the key that they refuse."""
        for account in self._accounts():
            if account.credential:
                secret = account.credential.get_secret_value()
                error.message = error.message.replace(secret, f"(the key of {account.name!r})")

    def _decide(self, outgoing: Outgoing) -> Decision:
        match outgoing.outcome:
            case None:
                return self._send(outgoing)
            case Broken(reused=True) if self._may_resend(outgoing):
                return self._send(outgoing)
            case Refused() as refused:
                limit = self._settings().max_rate_limit_wait_seconds
                return GiveUp(outgoing.refusal(refused, limit))
            case Broken() as broken:
                return GiveUp(_unreachable(broken, outgoing.tried[-1]))
            case FailedAnswer(failure):
                return GiveUp(failure_error(failure))

    def _may_resend(self, outgoing: Outgoing) -> bool:
        return len(outgoing.tried) <= STALE_CONNECTION_RETRIES

    def first_profile(self) -> Profile:
        """The profile of the account that the next request will try first.

        Raises:
            NoUsableAccount: there is none.
        """
        account, _ = self._next_account()
        return profile_for(account.endpoint(self._settings().base_url), account.provider)

    def _next_account(self) -> tuple[Account, SecretStr]:
        account = pick(self._accounts())
        if account is None or account.credential is None:
            raise NoUsableAccount(
                "No account can be used: each is disabled or has no token. Log in again or add a "
                "key to the account file."
            )
        return account, account.credential

    def _send(self, outgoing: Outgoing) -> Send:
        account, credential = self._next_account()
        outgoing.tried.append(account.name)
        base_url = account.endpoint(self._settings().base_url)
        parts = urlsplit(base_url)
        profile = profile_for(base_url, account.provider)
        # The one place where a credential leaves its wrapper.
        bearer = f"Bearer {credential.get_secret_value()}".encode()
        return Send(
            account=account.name,
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            target=outgoing.target(parts.path.rstrip("/")),
            headers=(*outgoing.headers(), (b"authorization", bearer)),
            body=outgoing.body(profile),
        )


def _unreachable(broken: Broken, account: str) -> BridgeError:
    if broken.timed_out:
        return UpstreamTimeout(
            f"The upstream of account {account!r} did not answer: {broken.message}."
        )
    doing = {"connect": "cannot be reached", "head": "hung up", "answer": "broke off"}
    return UpstreamUnreachable(
        f"The upstream of account {account!r} {doing[broken.stage]}: {broken.message}"
    )
