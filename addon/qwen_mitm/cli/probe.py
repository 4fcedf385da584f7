"""Requests that find out whether a credential works at a host.

A host is asked for its list of models; where that proves nothing, for one token of an answer, in
the form in which the proxy would ask.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import httpx
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.outcomes import Facts, classify
from qwen_mitm.accounts.verdicts import Verdict
from qwen_mitm.provider_hosts import Vendor, vendor_at
from qwen_mitm.providers import Profile, profile_for
from qwen_mitm.skew import seconds_ahead
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.failure import refusal
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.chat import Failure
from qwen_mitm.wire.responses import parse_request

from .replies import Reply, looks_like_list, model_names, read_reply

#: A server of one's own may have to load the model first.
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_LIMITED = frozenset({"burst", "window", "concurrency", "spent", "model", "client_fault"})


@dataclass(frozen=True, slots=True)
class Target:
    """A credential and where it is tried."""

    base_url: str
    credential: SecretStr
    profile: Profile
    vendor: Vendor | None = None
    kind: Literal["oauth", "api_key"] = "api_key"
    refreshed: bool = False
    """The access token was redeemed for this very request."""

    @classmethod
    def of(cls, account: Account, default_url: str, *, refreshed: bool = False) -> Target:
        """Of an account that has a credential."""
        assert account.credential is not None
        base_url = account.endpoint(default_url)
        return cls(
            base_url,
            account.credential,
            profile_for(base_url, account.provider),
            vendor_at(base_url),
            "api_key" if account.is_api_key else "oauth",
            refreshed,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What a host said. ``limited``: it accepts the credential, and not this request now."""

    base_url: str
    outcome: Literal["works", "limited", "refused", "silent"]
    words: str
    seconds: float
    verdict: Verdict
    status: int | None = None
    model: str | None = None
    clock_ahead_s: float | None = None
    """How far this machine's clock is ahead of the host's."""

    @property
    def is_home(self) -> bool:
        return self.outcome in ("works", "limited")

    @property
    def sentence(self) -> str:
        match self.outcome:
            case "works":
                return f"works, {self.seconds:.2f} s to the first token"
            case "limited":
                return f"accepts the key, but: {self.words}"
            case "refused":
                return f"refuses it: {self.words}"
        return f"no usable answer: {self.words}"

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "base_url": self.base_url,
            "outcome": self.outcome,
            "reason": self.verdict.kind,
            "message": self.words,
            "status": self.status,
            "model": self.model,
            "latency_ms": round(self.seconds * 1000),
        }


class Prober:
    """Asks for one target. ``now`` is ms since 1970."""

    def __init__(self, client: httpx.Client, target: Target, now: Callable[[], int]) -> None:
        self._client = client
        self._target = target
        self._now = now

    def key(self) -> Finding:
        """Whether the host accepts the credential, with as little use of it as that takes."""
        vendor = self._target.vendor
        path = vendor.key_path if vendor else "/models"
        reply = self._get(path)
        if reply.status == 200 and self._is_proof(reply, path):
            return self._finding(reply)
        if reply.status in (None, 401):
            return self._finding(reply)
        return self.completion(self._model(reply))

    def completion(self, model: str | None = None) -> Finding:
        """One token of a real answer."""
        if model is None:
            listed = self._get("/models")
            if listed.status is None:
                return self._finding(listed)
            model = self._model(listed)
        return self._finding(self._complete(model), model)

    def _is_proof(self, reply: Reply, path: str) -> bool:
        if not looks_like_list(reply.body):
            return False
        if self._target.vendor is None or self._target.vendor.is_own:
            # A server of one's own may well want no key.
            return True
        # What everybody may read says nothing about the key.
        return self._get(path, anonymous=True).status != 200

    def _model(self, reply: Reply) -> str:
        listed = model_names(reply.body) if reply.status == 200 else []
        known = self._target.vendor.models if self._target.vendor else ()
        if self._target.kind == "oauth":
            # The name that every login has (qwen.md §2.6).
            known = ("coder-model",)
        for name in known:
            if name in listed or not listed:
                return name
        return listed[0] if listed else "qwen3-coder-plus"

    def _get(self, path: str, *, anonymous: bool = False) -> Reply:
        headers = {} if anonymous else self._headers()
        return self._ask("GET", path, headers)

    def _complete(self, model: str) -> Reply:
        asked = {"model": model, "input": "Hi", "max_output_tokens": 1, "stream": True}
        translation = translate(parse_request(json.dumps(asked).encode()))
        body = chat_body(translation.chat, self._target.profile, stream=True)
        headers = self._headers() | {
            "content-type": "application/json",
            "accept": "text/event-stream",
        }
        return self._ask("POST", "/chat/completions", headers, body)

    def _headers(self) -> dict[str, str]:
        # The one place where a credential leaves its wrapper.
        return {"authorization": f"Bearer {self._target.credential.get_secret_value()}"}

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Reply:
        began = time.monotonic()
        url = self._target.base_url + path
        try:
            request = self._client.build_request(
                method, url, headers=headers, content=body, timeout=TIMEOUT
            )
            response = self._client.send(request, stream=True, follow_redirects=False)
            with closing(response):
                return read_reply(response, began, is_answer=body is not None)
        except httpx.TimeoutException:
            words = "no answer in time"
        except (httpx.LocalProtocolError, UnicodeError):
            # The library quotes the header.
            words = "the key has characters that cannot be sent"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            words = str(error) or type(error).__name__
        return Reply(None, {}, words.encode(), time.monotonic() - began)

    def _finding(self, reply: Reply, model: str | None = None) -> Finding:
        verdict, words = self._judge(reply)
        if verdict.kind == "ok":
            outcome: Literal["works", "limited", "refused", "silent"] = "works"
        elif verdict.kind in _LIMITED:
            outcome = "limited"
        else:
            outcome = "silent" if verdict.kind == "transient" else "refused"
        ahead = seconds_ahead(reply.headers.get("date"), self._now() / 1000)
        return Finding(
            self._target.base_url,
            outcome,
            words,
            reply.seconds,
            verdict,
            reply.status,
            model,
            ahead,
        )

    def _judge(self, reply: Reply) -> tuple[Verdict, str]:
        if reply.status is None:
            return Verdict("transient"), self._redacted(reply.body.decode("utf-8", "replace"))
        if 300 <= reply.status < 400:
            return Verdict("wrong_host"), f"it redirects to another address ({reply.status})"
        if reply.status == 200 and reply.failure is None:
            return Verdict("ok"), ""
        facts, words = self._facts(reply)
        words = words if reply.status == 200 else f"{words} ({reply.status})"
        return classify(facts, self._now()), self._redacted(words)

    def _facts(self, reply: Reply) -> tuple[Facts, str]:
        failure = reply.failure
        if failure is None:
            assert reply.status is not None
            error = refusal(reply.status, reply.headers, reply.body, max_retry_after=0)
            failure = Failure(error.message, error.type, error.code, status=reply.status)
        message = self._redacted(failure.message)
        facts = Facts(
            status=failure.status or reply.status,
            headers=reply.headers,
            message=message,
            code=failure.code,
            type=failure.type,
            provider=self._target.profile.name,
            kind=self._target.kind,
            refreshed=self._target.refreshed,
        )
        return facts, message

    def _redacted(self, text: str) -> str:
        """Some hosts quote the key that they refuse."""
        text = text.replace(self._target.credential.get_secret_value(), "…")
        return "".join(c if c.isprintable() else " " for c in text)[:300]
