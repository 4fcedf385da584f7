"""The authorization server: device codes, tokens, and their faults on demand (qwen.md §2.1, §2.2).

Lines of the scripts for both endpoints join these by ``+``; a line with a ``bearer`` is for the
token requests of the account of that name.

    pending slow-down slow-down-429 expired expired-401 denied rate-limit     instead of tokens
    invalid-grant invalid-grant-401 error-200 401 500 502 503
    html html-400 broken-json empty array                                     bodies of another kind
    drop hang late-S      the connection breaks, nothing happens, S seconds pass; nothing is spent
    hold-NAME             waits at the gate before anything is looked at
    gate-NAME lost        the tokens are given; the answer waits at the gate, or never arrives
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .journal import Journal, ReceivedRequest
from .logins import Denied, Logins, Redeem
from .refusals import OTHER_SHAPES
from .script import Line, Script
from .script import line as read_line
from .steps import Break, Endless, Pause, Performance, Send, Step, WaitFor

DEVICE = "/api/v1/oauth2/device/code"
TOKEN = "/api/v1/oauth2/token"
AUTHORIZE = "/authorize"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

_FORM = "application/x-www-form-urlencoded"
_PAGE = OTHER_SHAPES["html"].body

type Form = Mapping[str, str]


def _error(error: str, description: str = "") -> bytes:
    document = {"error": error} | ({"error_description": description} if description else {})
    return json.dumps(document).encode()


_INVALID_GRANT = _error("invalid_grant", "Invalid refresh token or client_id")
_REPLIES: dict[str, tuple[int, bytes]] = {
    "pending": (400, _error("authorization_pending")),
    "slow-down": (400, _error("slow_down")),
    "slow-down-429": (429, _error("slow_down")),
    "expired": (400, _error("expired_token", "The device code has expired")),
    "expired-401": (401, _error("invalid_grant", "Device code expired or invalid")),
    "denied": (400, _error("access_denied", "The user denied the request")),
    "rate-limit": (429, _error("rate_limit", "Too many requests")),
    "invalid-grant": (400, _INVALID_GRANT),
    "invalid-grant-401": (401, _INVALID_GRANT),
    "error-200": (200, _error("server_error", "Try again")),
    "401": (401, _error("unauthorized_client")),
    "500": (500, _error("server_error")),
    "502": (502, _PAGE),
    "503": (503, _error("temporarily_unavailable")),
    "html": (200, _PAGE),
    "html-400": (400, _PAGE),
    "broken-json": (200, b'{"access_token": "sim-'),
    "empty": (200, b""),
    "array": (200, b"[]"),
}


class OAuth:
    """Both endpoints and the page where a person decides, at ``origin``."""

    def __init__(self, journal: Journal) -> None:
        self.origin = ""
        self.logins = Logins()
        self.scripts = {DEVICE: Script(), TOKEN: Script()}
        self._journal = journal

    def clear(self) -> None:
        """Forget every login, code, term and script."""
        self.logins.clear()
        for script in self.scripts.values():
            script.clear()

    def script(
        self,
        *,
        device: Iterable[str | Mapping[str, Any] | Line] = (),
        token: Iterable[str | Mapping[str, Any] | Line] = (),
    ) -> None:
        """Queue answers of the endpoints; TypeError or ValueError when one makes no sense."""
        self.scripts[DEVICE].add(_checked(device))
        self.scripts[TOKEN].add(_checked(token))

    def serves(self, request: ReceivedRequest) -> bool:
        path = request.path.partition("?")[0]
        return (request.method, path) in (("POST", DEVICE), ("POST", TOKEN), ("GET", AUTHORIZE))

    async def answer(self, request: ReceivedRequest) -> Performance:
        path = request.path.partition("?")[0]
        if path == AUTHORIZE:
            return self._authorize(request)
        form = _form(request)
        redeem = self._arrived(form) if path == TOKEN else None
        request.account = redeem.account if redeem else None
        line = self.scripts[path].next(request.account or "")
        before: list[Step] = []
        for word in filter(None, line.behaviour.split("+") if line else ()):
            name, _, argument = word.partition("-")
            if name == "hold":
                await self._hold(request, argument)
            elif word in _REPLIES or word in ("drop", "hang"):
                return _noted(redeem, word, _fault(word, before))
            else:
                before.append(_step(name, argument))
        if line and (performance := line.performance()):
            return _noted(redeem, "scripted", performance)
        give = self._token if path == TOKEN else self._device
        return self._given(give, form, redeem, before)

    def _arrived(self, form: Form) -> Redeem:
        token = form.get("refresh_token", "")
        grant = form.get("grant_type", "").rpartition(":")[2]
        account = self.logins.account_of_refresh_token(token)
        redeem = Redeem(grant, account, time.time())
        self.logins.redeems.append(redeem)
        return redeem

    async def _hold(self, request: ReceivedRequest, gate: str) -> None:
        request.waits_at = gate
        self._journal.notify()
        await self._journal.gate(gate).wait()
        request.waits_at = None

    def _given(
        self,
        give: Callable[[Form], dict[str, Any]],
        form: Form,
        redeem: Redeem | None,
        before: list[Step],
    ) -> Performance:
        try:
            document = give(form)
        except Denied as denied:
            body = _error(denied.error, denied.description)
            return _noted(redeem, denied.error, _reply(denied.status, body, before))
        if redeem is not None:
            redeem.account = self._account_of(document)
        return _noted(redeem, "issued", _reply(200, json.dumps(document).encode(), before))

    def _account_of(self, document: Mapping[str, Any]) -> str | None:
        return self.logins.account_of_bearer(document["access_token"])

    def _device(self, form: Form) -> dict[str, Any]:
        _need(form, "client_id", "scope", "code_challenge", "code_challenge_method")
        if form["code_challenge_method"] != "S256":
            raise Denied(400, "invalid_request", "code_challenge_method must be S256")
        code = self.logins.code(form["client_id"], form["code_challenge"])
        page = f"{self.origin}{AUTHORIZE}"
        document: dict[str, Any] = {
            "device_code": code.device_code,
            "user_code": code.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={code.user_code}&client=qwen-code",
            "expires_in": self.logins.terms.device_expires_in,
        }
        if self.logins.terms.interval is not None:
            document["interval"] = self.logins.terms.interval
        return document

    def _token(self, form: Form) -> dict[str, Any]:
        _need(form, "client_id", "grant_type")
        if form["grant_type"] == DEVICE_GRANT:
            _need(form, "device_code", "code_verifier")
            family = self.logins.redeem_code(
                form["client_id"], form["device_code"], form["code_verifier"]
            )
        elif form["grant_type"] == "refresh_token":
            _need(form, "refresh_token")
            family = self.logins.refresh(form["refresh_token"])
        else:
            raise Denied(400, "unsupported_grant_type", f"no grant {form['grant_type']!r}")
        return self.logins.tokens(family)

    def _authorize(self, request: ReceivedRequest) -> Performance:
        """Whoever opens the page approves."""
        query = parse_qs(urlsplit(request.path).query)
        try:
            self.logins.decide(query.get("user_code", [""])[0], query.get("account", ["person"])[0])
        except ValueError as error:
            return _text(404, f"{error}\n")
        return _text(200, "Approved. You may close this page.\n")

    def control(self, method: str, what: str, document: Any) -> dict[str, Any]:
        """The control endpoint's part of it; raises ValueError, TypeError or KeyError."""
        match method, what:
            case "GET", "redeems":
                return {"redeems": [redeem.as_json() for redeem in self.logins.redeems]}
            case "POST", "login":
                family = self.logins.login(**document)
                return {"refresh_token": family.refresh_token, "access_token": family.access_token}
            case "POST", "approve":
                self.logins.decide(document["user_code"], document.get("account", "person"))
            case "POST", "deny":
                self.logins.decide(document["user_code"], None)
            case "POST", "expire":
                self.logins.of(document["account"]).expires_at = 0
            case "POST", "revoke":
                self.logins.of(document["account"]).revoked = True
            case "POST", "terms":
                self.logins.terms.update(document)
            case "POST", "script":
                self.script(**document)
            case _:
                raise ValueError(f"no {method} oauth/{what}")
        return {"ok": True}


def _checked(lines: Iterable[str | Mapping[str, Any] | Line]) -> list[Line]:
    checked = [read_line(written) for written in lines]
    for line in checked:
        for word in filter(None, line.behaviour.split("+")):
            name, _, argument = word.partition("-")
            if word not in _REPLIES and word not in ("drop", "hang") and name != "hold":
                _step(name, argument)
    return checked


def _step(name: str, argument: str) -> Step:
    match name:
        case "gate":
            return WaitFor(argument or "gate")
        case "late":
            return Pause(float(argument or 1))
        case "lost":
            return Break("abort")
    raise ValueError(f"no behaviour {name!r} of the authorization server")


def _form(request: ReceivedRequest) -> Form:
    if not (request.header("content-type") or "").startswith(_FORM):
        return {}
    return {key: values[-1] for key, values in parse_qs(request.body.decode("latin-1")).items()}


def _need(form: Form, *names: str) -> None:
    if missing := [name for name in names if not form.get(name)]:
        raise Denied(400, "invalid_request", f"missing {', '.join(missing)}")


def _noted(redeem: Redeem | None, outcome: str, performance: Performance) -> Performance:
    if redeem is not None:
        redeem.outcome = outcome
    return performance


def _fault(word: str, before: list[Step]) -> Performance:
    if word in _REPLIES:
        return _reply(*_REPLIES[word], before)
    return _reply(500, b"", [*before, Break("abort") if word == "drop" else Endless()])


def _reply(status: int, body: bytes, before: list[Step]) -> Performance:
    kind = "text/html" if body == _PAGE else "application/json"
    headers = [("content-type", kind), ("cache-control", "no-store")]
    return Performance(status, headers, [Send(body)], before=before, content_length=len(body))


def _text(status: int, text: str) -> Performance:
    data = text.encode()
    headers = [("content-type", "text/plain")]
    return Performance(status, headers, [Send(data)], content_length=len(data))
