"""chat.qwen.ai's own API, as strict as the site (web-chat.md §1 to §6)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .behaviours import PREFIX
from .journal import ReceivedRequest
from .script import Line, Script
from .steps import Performance, WaitFor
from .web_answers import answer, document, fault, refused
from .web_chats import Chat

NEW = "/api/v2/chats/new"
COMPLETIONS = "/api/v2/chat/completions"
MODELS = "/api/models"
MODES = ("guest", "normal", "local")

#: Any time in ms is later than this many seconds.
_FIRST_MS = 10**11
_MODEL_IDS = {"qwen3-max": (262_144, 32_768), "qwen3-coder-plus": (1_048_576, 65_536)}

type Lines = Iterable[str | Mapping[str, Any] | Line]


class WebSite:
    """Logins, chats, and the queued behaviours of each endpoint.

    Without ``logins`` (bx-umidtoken to account) every guest may ask.
    """

    def __init__(self) -> None:
        self.logins: dict[str, str] = {}
        self.expired: set[str] = set()
        self.chats: dict[str, Chat] = {}
        self.scripts = {NEW: Script(), COMPLETIONS: Script(), MODELS: Script()}

    def clear(self) -> None:
        self.logins.clear()
        self.expired.clear()
        self.chats.clear()
        for script in self.scripts.values():
            script.clear()

    def script(self, *, new: Lines = (), completion: Lines = (), models: Lines = ()) -> None:
        """Queue behaviours; a line with a ``bearer`` is for the login with that token."""
        self.scripts[NEW].add(new)
        self.scripts[COMPLETIONS].add(completion)
        self.scripts[MODELS].add(models)

    def serves(self, request: ReceivedRequest) -> bool:
        where = (request.method, urlsplit(request.path).path)
        return where in (("POST", NEW), ("POST", COMPLETIONS), ("GET", MODELS))

    def answer(self, request: ReceivedRequest) -> Performance:
        path = urlsplit(request.path).path
        token = request.header("bx-umidtoken") or ""
        request.account = self.logins.get(token)
        line = self.scripts[path].next(token)
        if line is not None and (performance := line.performance()):
            return performance
        words = [word for word in (line.behaviour if line else "").split("+") if word]
        for word in words:
            if performance := fault(word):
                return performance
        if refusal := self._stranger(request, token, needs_token=path != MODELS):
            return refusal
        if path == MODELS:
            return _models()
        try:
            body = request.json
        except ValueError:
            return refused("Bad_Request", "no JSON")
        if path == NEW:
            made = self._create(request, body)
            gates = [word[len("gate-") :] for word in words if word.startswith("gate-")]
            return replace(made, before=[WaitFor(gate) for gate in gates])
        return self._complete(request, body, words)

    def _stranger(
        self, request: ReceivedRequest, token: str, *, needs_token: bool
    ) -> Performance | None:
        if not request.header("cookie") or (needs_token and not token):
            return document({"detail": "Not authenticated"}, 401)
        if needs_token and (token in self.expired or (self.logins and token not in self.logins)):
            return document({"detail": "401 Unauthorized"}, 401)
        if needs_token and not request.header("version"):
            return refused("Bad_Request", "Bad Request")
        return None

    def _create(self, request: ReceivedRequest, body: Any) -> Performance:
        match body:
            case {
                "title": str(title),
                "models": [str()],
                "chat_mode": str(mode),
                "chat_type": "t2t",
                "timestamp": int(at),
            } if mode in MODES and at > _FIRST_MS:
                chat = Chat(str(uuid.uuid4()), request.account or "", title, mode)
            case _:
                return refused("Bad_Request", "Bad Request")
        self.chats[chat.id] = chat
        data = {"id": chat.id}
        return document({"success": True, "request_id": str(uuid.uuid4()), "data": data})

    def _complete(self, request: ReceivedRequest, body: Any, words: list[str]) -> Performance:
        if not (well_formed(body) and _chat_id(request) == body["chat_id"]):
            return refused("Bad_Request", "Bad Request")
        name = body["model"]
        if not words and name.startswith(PREFIX):
            words = name.removeprefix(PREFIX).split("+")
            for word in words:
                if performance := fault(word):
                    return performance
        chat = self.chats.get(body["chat_id"])
        if chat is None or chat.account != (request.account or ""):
            return refused("Not_Found", f"chat {body['chat_id']} is not exist")
        message = body["messages"][0]
        try:
            turn = chat.add(body["parent_id"], message["content"], request)
        except KeyError:
            words = [f"Invalid input chat parent_id {body['parent_id']} is not exist."]
            return refused("invalid_input", *words)
        ids = {"chat_id": chat.id, "parent_id": turn.id, "response_id": str(uuid.uuid4())}
        has_phases = message["feature_config"].get("output_schema") == "phase"
        return answer(turn.answer, ids, words, has_phases=has_phases)

    def control(self, method: str, what: str, content: Any) -> dict[str, Any]:
        """The control endpoint's part of it; raises ValueError, TypeError or KeyError."""
        match method, what:
            case "GET", "chats":
                return {"chats": [chat.as_json() for chat in self.chats.values()]}
            case "POST", "logins":
                self.logins = dict(content)
            case "POST", "expire":
                self.expired.add(content["token"])
            case "POST", "forget":
                self.chats.clear()
            case "POST", "script":
                self.script(**content)
            case _:
                raise ValueError(f"no {method} web/{what}")
        return {"ok": True}


def well_formed(body: Any) -> bool:
    """Whether the site takes this for a message: one of them, with a time in seconds."""
    match body:
        case {
            "stream": True,
            "version": "2.1",
            "incremental_output": True,
            "chat_id": str(),
            "chat_mode": str(mode),
            "model": str(model),
            "parent_id": str() | None as parent_id,
            "messages": [
                {
                    "fid": str(),
                    "parentId": parent,
                    "parent_id": parent_too,
                    "childrenIds": list(),
                    "role": "user",
                    "content": str(content),
                    "user_action": "chat",
                    "files": [],
                    "timestamp": int(sent_at),
                    "models": [str(one)],
                    "chat_type": "t2t",
                    "sub_chat_type": "t2t",
                    "feature_config": {"thinking_enabled": bool()},
                    "extra": {"meta": {"subChatType": "t2t"}},
                }
            ],
            "timestamp": int(at),
        }:
            parents = parent == parent_too == parent_id
            times = 0 < at < _FIRST_MS and 0 < sent_at < _FIRST_MS
            return parents and times and mode in MODES and one == model and bool(content)
    return False


def _chat_id(request: ReceivedRequest) -> str:
    return parse_qs(urlsplit(request.path).query).get("chat_id", [""])[0]


def _models() -> Performance:
    return document({"data": [_model(name, *lengths) for name, lengths in _MODEL_IDS.items()]})


def _model(name: str, context: int, generation: int) -> dict[str, Any]:
    capabilities = {"vision": False, "document": True, "citations": False}
    meta = {
        "description": name,
        "capabilities": capabilities,
        "max_context_length": context,
        "max_generation_length": generation,
        "chat_type": ["t2t"],
        "modality": ["text"],
    }
    info = {"id": name, "name": name, "meta": meta, "is_active": True}
    return {"id": name, "name": name, "object": "model", "owned_by": "qwen", "info": info}
