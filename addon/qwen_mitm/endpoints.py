"""The endpoints beside POST /responses that stored responses answer (responses-to-chat §12)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from qwen_mitm.errors import BridgeError, InvalidRequest
from qwen_mitm.exchange import Answer
from qwen_mitm.state import NotFound, expand
from qwen_mitm.stored_response import ResponseStore, encoded
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import ResponsesRequest, parse_request

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100

_RESPONSES: Final = re.compile(r"(?:/.*)?/responses/([^/]+)(?:/([^/]+))?/?")
_CONVERSATIONS: Final = re.compile(r"(?:/v1)?/conversations(?:/[^/]+(?:/items(?:/[^/]+)?)?)?/?")
#: Operations, not ids.
_COUNT: Final = "input_tokens"
_COMPACT: Final = "compact"


class MethodNotAllowed(BridgeError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


def answer(
    method: str,
    path: str,
    body: Callable[[], bytes],
    store: ResponseStore,
    count: Callable[[ResponsesRequest], int],
) -> Answer | None:
    """The answer to a request for something stored; ``None`` for any other request.

    ``path`` has the query, ``body`` gives the decoded content, and ``count`` estimates the input
    tokens of a request. May block on the store.

    Raises:
        BridgeError: the client's answer instead.
    """
    path, _, query = path.partition("?")
    if _CONVERSATIONS.fullmatch(path):
        # OpenAI's clients repeat a request that is answered 501.
        raise NotFound(
            "Conversations are not supported. Use 'previous_response_id', or send the whole "
            "conversation in 'input'."
        )
    match = _RESPONSES.fullmatch(path)
    if match is None:
        return None
    name, part = match.groups()
    if method == "POST" and part is None and name == _COMPACT:
        return None
    if method == "POST" and part is None and name == _COUNT:
        return _json(_counted(body(), store, count))
    asked = dict(parse_qsl(query, keep_blank_values=True))
    return _json(_stored(method, name, part, asked, store))


def _stored(
    method: str, response_id: str, part: str | None, asked: Mapping[str, str], store: ResponseStore
) -> JsonObject:
    match method, part:
        case "GET", None:
            return _response(response_id, asked, store)
        case "DELETE", None:
            return _deleted(response_id, store)
        case "GET", "input_items":
            return _input_items(response_id, asked, store)
        case "POST", "cancel":
            return _cancelled(response_id, store)
        case _, None | "input_items" | "cancel":
            allowed = {None: "GET, DELETE", "input_items": "GET", "cancel": "POST"}[part]
            raise MethodNotAllowed(
                f"{method} is not possible here; {allowed} is.", headers={"allow": allowed}
            )
        case _:
            raise NotFound(f"A stored response has no '{str(part)[:64]}'.")


def _response(response_id: str, asked: Mapping[str, str], store: ResponseStore) -> JsonObject:
    for name in ("stream", "starting_after"):
        if asked.get(name, "false").lower() not in ("false", "0", ""):
            raise InvalidRequest(
                f"'{name}' is not supported: the events of a stored response are not kept. Leave "
                "it out to get the whole response.",
                param=name,
            )
    response = store.get(response_id)
    if response is None:
        raise _no_response(response_id)
    return response


def _deleted(response_id: str, store: ResponseStore) -> JsonObject:
    if not store.delete(response_id):
        raise _no_response(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


def _cancelled(response_id: str, store: ResponseStore) -> JsonObject:
    if store.get(response_id) is None:
        raise _no_response(response_id)
    raise InvalidRequest(
        "Only responses made with 'background' can be cancelled. To stop this kind, close its "
        "connection."
    )


def _input_items(response_id: str, asked: Mapping[str, str], store: ResponseStore) -> JsonObject:
    order, limit = asked.get("order", "desc"), _limit(asked)
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    items = store.input_items(response_id)
    if items is None:
        raise _no_response(response_id)
    if order == "desc":
        items.reverse()
    ids = [str(item["id"]) for item in items]
    start = 0
    if after := asked.get("after"):
        if after not in ids:
            raise InvalidRequest(f"There is no item with id '{after[:64]}'.", param="after")
        start = ids.index(after) + 1
    page, page_ids = items[start : start + limit], ids[start : start + limit]
    return {
        "object": "list",
        "data": [*page],
        "first_id": page_ids[0] if page else None,
        "last_id": page_ids[-1] if page else None,
        "has_more": start + limit < len(items),
    }


def _limit(asked: Mapping[str, str]) -> int:
    text = asked.get("limit", str(DEFAULT_LIMIT))
    # More digits than this are out of range, and int() refuses thousands of them.
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidRequest(f"'limit' must be an integer from 1 to {MAX_LIMIT}.", param="limit")
    return int(text)


def _counted(
    body: bytes, store: ResponseStore, count: Callable[[ResponsesRequest], int]
) -> JsonObject:
    expansion = expand(parse_request(body), body, store)
    with expansion.own_indices():
        tokens = count(expansion.request)
    return {"object": "response.input_tokens", "input_tokens": tokens}


def _no_response(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id[:64]}' not found.")


def _json(content: JsonObject) -> Answer:
    return Answer(200, ((b"content-type", b"application/json"),), encoded(content))
