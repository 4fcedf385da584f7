"""The control endpoint, for tests and demos in another process.

GET  /_simulator/requests[?received=N][&closed=N][&timeout=S]   what arrived; with N, wait first
GET  /_simulator/gates/NAME[?timeout=S]                         wait until an answer stands there
POST /_simulator/release/NAME                                   open a gate
POST /_simulator/script      [behaviour or line, …]             queue behaviours
POST /_simulator/accounts    {bearer: account name}             who may ask from now on
GET  /_simulator/oauth/redeems                                  requests for tokens, in order
POST /_simulator/oauth/login     {account[, refresh_token, access_token]}      as after a login
POST /_simulator/oauth/approve   {user_code[, account]}         and oauth/deny {user_code}
POST /_simulator/oauth/expire    {account}                      its access token; or oauth/revoke
POST /_simulator/oauth/terms     {term: value}                  what the next tokens come with
POST /_simulator/oauth/script    {"device": […], "token": […]}  queue answers of the endpoints
GET  /_simulator/web/chats                                      those of the web chat
POST /_simulator/web/logins      {bx-umidtoken: account name}   who may chat from now on
POST /_simulator/web/expire      {token}                        or web/forget {}: all chats
POST /_simulator/web/script      {"new": […], "completion": […], "models": […]}
POST /_simulator/reset                                          forget all of this but accounts
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .journal import Journal, ReceivedRequest
from .oauth import OAuth
from .paths import CONTROL
from .script import Script
from .steps import Performance, Send
from .web_site import WebSite

_TIMEOUT = 10.0


class Control:
    def __init__(
        self,
        journal: Journal,
        script: Script,
        accounts: dict[str, str],
        oauth: OAuth,
        web: WebSite,
        reset: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._script = script
        self._accounts = accounts
        self._oauth = oauth
        self._web = web
        self._reset = reset

    async def answer(self, request: ReceivedRequest) -> Performance:
        address = urlsplit(request.path)
        what, _, name = address.path.removeprefix(CONTROL).partition("/")
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        try:
            return await self._do(request, what, unquote(name), query)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            return _json({"error": str(error)}, 400)

    async def _do(
        self, request: ReceivedRequest, what: str, name: str, query: dict[str, str]
    ) -> Performance:
        patience = float(query.get("timeout", _TIMEOUT))
        match request.method, what:
            case "GET", "requests":
                return await self._requests(query, patience)
            case "GET", "gates":
                there = await self._journal.wait_for(
                    lambda: self._journal.stands_at(name), patience
                )
                return _json({"reached": there}, 200 if there else 408)
            case method, "oauth" | "web":
                part = self._oauth if what == "oauth" else self._web
                document = request.json if method == "POST" else None
                return _json(part.control(method, name, document))
            case "POST", "release":
                self._journal.release(name)
            case "POST", "script":
                self._script.add(request.json)
            case "POST", "accounts":
                self._accounts.clear()
                self._accounts.update(request.json)
            case "POST", "reset":
                self._reset()
            case _:
                return _json({"error": f"no {request.method} {what}"}, 404)
        return _json({"ok": True})

    async def _requests(self, query: dict[str, str], patience: float) -> Performance:
        received, closed = int(query.get("received", 0)), int(query.get("closed", 0))
        there = await self._journal.wait_for(
            lambda: self._journal.has(received=received, closed=closed), patience
        )
        listed = [request.as_json() for request in self._journal.requests]
        return _json({"requests": listed}, 200 if there else 408)


def _json(document: Any, status: int = 200) -> Performance:
    data = json.dumps(document).encode()
    headers = [("content-type", "application/json")]
    return Performance(status, headers, [Send(data)], content_length=len(data))
