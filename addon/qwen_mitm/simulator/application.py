"""Who may ask, what is asked, and which answer it gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import refusals
from .behaviours import PREFIX, UnknownBehaviour, cook
from .control import Control
from .exchange import Exchange
from .journal import Journal, ReceivedRequest
from .oauth import OAuth
from .paths import MODELS, RESPONSES, endpoint, is_control
from .recipe import refused
from .refusals import Refusal
from .responses import as_chat, check_input
from .rules import check
from .schema import InvalidSchema
from .script import Script
from .steps import Performance, Send, play
from .web_site import WebSite

MODEL_NAMES = (
    "coder-model",
    "vision-model",
    "qwen3-coder-plus",
    "qwen3-coder-flash",
    "qwen3.7-plus",
    "qwen3.8-max",
    "qwen3-235b-a22b-thinking",
)


@dataclass(slots=True)
class State:
    """What can be changed from outside.

    Without ``accounts`` and without logins any bearer that is not empty will do.
    """

    journal: Journal = field(default_factory=Journal)
    script: Script = field(default_factory=Script)
    accounts: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    web: WebSite = field(default_factory=WebSite)
    oauth: OAuth = field(init=False)

    def __post_init__(self) -> None:
        self.oauth = OAuth(self.journal)

    def reset(self) -> None:
        self.journal.reset()
        self.script.clear()
        self.oauth.clear()
        self.web.clear()

    def account_of(self, bearer: str) -> str | None:
        """The account that may ask with this bearer."""
        logins = self.oauth.logins
        return self.accounts.get(bearer) or logins.account_of_bearer(bearer)

    def may_ask(self, bearer: str) -> bool:
        if bearer in self.accounts:
            return True
        logins = self.oauth.logins
        if not (self.accounts or logins.families):
            return True
        return not logins.terms.free_tier_ended and bool(logins.account_of_bearer(bearer))


class Portal:
    """The application behind both rims."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._control = Control(
            state.journal, state.script, state.accounts, state.oauth, state.web, state.reset
        )

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if is_control(request.path):
            performance = await self._control.answer(request)
        elif self._state.oauth.serves(request):
            performance = await self._state.oauth.answer(request)
        elif self._state.web.serves(request):
            performance = self._state.web.answer(request)
        else:
            performance = self._answer(request)
        await play(performance, exchange, self._state.journal)

    def _answer(self, request: ReceivedRequest) -> Performance:
        where = endpoint(request.path)
        if where is None or request.method != ("GET" if where == MODELS else "POST"):
            return refused(refusals.named("404-empty", ""), {})
        bearer = bearer_of(request)
        if refusal := self._stranger(request, bearer):
            return refused(refusal, {})
        return _models() if where == MODELS else self._model(request, bearer, where)

    def _stranger(self, request: ReceivedRequest, bearer: str) -> Refusal | None:
        if not bearer:
            return refusals.no_bearer()
        request.account = self._state.account_of(bearer)
        return None if self._state.may_ask(bearer) else refusals.unknown_bearer()

    def _model(self, request: ReceivedRequest, bearer: str, where: str) -> Performance:
        try:
            body = request.json
        except ValueError:
            return refused(refusals.refusal(400, "Invalid JSON in the request body."), {})
        responses = where == RESPONSES
        if responses:
            if refusal := check_input(body):
                return refused(refusal, {})
            body = as_chat(body)
        if refusal := check(body, self._state.limits):
            return refused(refusal, body)
        line = self._state.script.next(bearer)
        if line is not None and (performance := line.performance()):
            return performance
        wanted = line.behaviour if line is not None else asked_for(body["model"])
        try:
            return cook(body, wanted, responses=responses).performance()
        except InvalidSchema as error:
            return refused(refusals.invalid_parameter(f"invalid schema: {error}"), body)
        except UnknownBehaviour as error:
            refusal = refusals.refusal(404, str(error), code="model_not_found")
            return refused(refusal, body)


def bearer_of(request: ReceivedRequest) -> str:
    scheme, _, bearer = (request.header("authorization") or "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else ""


def asked_for(model: str) -> str:
    """The behaviours in a model name; a prefix as in ``qwen/sim-…`` does not matter."""
    name = model.rpartition("/")[2] if "/sim-" in model else model
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""


def _models() -> Performance:
    models: list[Mapping[str, object]] = [
        {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "qwen"}
        for name in MODEL_NAMES
    ]
    data = json.dumps({"object": "list", "data": models}).encode()
    headers = [("content-type", "application/json")]
    return Performance(200, headers, [Send(data)], content_length=len(data))
