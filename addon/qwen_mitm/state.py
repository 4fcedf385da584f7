"""Requests that build on stored responses and items (responses-to-chat §3, §6 (10), §12)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import from_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.stored_response import ResponseStore, StoredResponse, chain, encoded, with_id
from qwen_mitm.wire.input_items import (
    AdditionalTools,
    CallItem,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    InputItem,
    ItemReference,
    Message,
)
from qwen_mitm.wire.request_faults import without_lone_surrogates
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import ResponsesRequest

_TYPED_ITEMS: Final = TypeAdapter[tuple[InputItem, ...]](tuple[InputItem, ...])
_INPUT_INDEX: Final = re.compile(r"input\[(\d+)\]")
_UNFINISHED: Final = ("incomplete", "in_progress")


class NotFound(InvalidRequest):
    """OpenAI answers 404 for a response or an item that it does not have."""

    status = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """A request with all that it refers to in its input."""

    request: ResponsesRequest
    """To be translated: it refers to nothing any more."""
    previous_response_id: str | None
    """For the Response object, which repeats it."""
    store: bool
    inherited: tuple[bytes, ...]
    _referred: dict[str, bytes]
    _body: bytes

    def stored(self, response: JsonObject) -> StoredResponse:
        """What to keep of the turn that ended with this Response object."""
        return StoredResponse(response=response, input=self._all_input())

    def user_messages(self) -> list[JsonObject]:
        """What the user said, as it is listed."""
        items = self._all_input()
        listed = (with_id(item, key) for item, key in zip(items, chain(items), strict=True))
        return [
            {**item, "status": "completed"}
            for item in listed
            if item["type"] == "message" and item.get("role") == "user"
        ]

    @contextmanager
    def own_indices(self) -> Iterator[None]:
        """Lets an ``InvalidRequest`` name the item as the client counts, not as it is replayed."""
        try:
            yield
        except InvalidRequest as error:
            error.param = self._own_param(error.param)
            raise

    def _own_param(self, param: str | None) -> str | None:
        match = _INPUT_INDEX.match(param or "")
        if param is None or match is None or not self.inherited:
            return param
        index = int(match[1]) - len(self.inherited)
        return f"input[{index}]{param[match.end() :]}" if index >= 0 else "input"

    def _all_input(self) -> tuple[bytes, ...]:
        return (*self.inherited, *self._new_input())

    def _new_input(self) -> Iterator[bytes]:
        for item in _items_as_sent(self._body):
            if isinstance(item, dict) and item.get("type", "item_reference") == "item_reference":
                referred = self._referred.get(str(item.get("id")))
                if referred is not None:
                    yield referred
                    continue
            yield encoded(item)


def expand(request: ResponsesRequest, body: bytes, store: ResponseStore) -> Expansion:
    """The request as if the client had sent the whole conversation.

    ``body`` is what ``request`` was parsed from. The store is asked only if the request refers to
    something, and then this may block.

    Raises:
        InvalidRequest: what it refers to is not stored, or cannot be referred to.
    """
    _refuse_conversation(request)
    inherited, typed = _inherited(request, body, store)
    referred = _referred_items(request, store)
    resolved = request
    if request.previous_response_id is not None or referred:
        items = (*typed, *_own_items(request, referred))
        resolved = request.model_copy(update={"input": items, "previous_response_id": None})
    return Expansion(
        request=resolved,
        previous_response_id=request.previous_response_id,
        store=request.store is not False,
        inherited=inherited,
        _referred=referred,
        _body=body,
    )


def _inherited(
    request: ResponsesRequest, body: bytes, store: ResponseStore
) -> tuple[tuple[bytes, ...], tuple[InputItem, ...]]:
    if request.previous_response_id is None:
        return (), ()
    context = store.context(request.previous_response_id)
    if context is None:
        raise _unknown_response(request.previous_response_id)
    typed = _typed(context, request)
    dropped = _cut_off(context, typed, body)
    # A trigger was carried out in its own turn, and has to be the last item of one.
    dropped |= {index for index, item in enumerate(typed) if isinstance(item, CompactionTrigger)}
    dropped |= _compacted(typed)
    if dropped:
        kept = [index for index in range(len(context)) if index not in dropped]
        return tuple(context[index] for index in kept), tuple(typed[index] for index in kept)
    return tuple(context), typed


def _refuse_conversation(request: ResponsesRequest) -> None:
    if request.conversation is None:
        return
    if request.previous_response_id is not None:
        raise InvalidRequest(
            "'previous_response_id' and 'conversation' cannot be used together. Send one of them.",
            param="conversation",
        )
    raise InvalidRequest(
        "'conversation' is not supported. Send 'previous_response_id', or the whole conversation "
        "in 'input'.",
        param="conversation",
    )


def _unknown_response(response_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"Previous response with id '{response_id[:64]}' not found. It was never stored, or was "
        "deleted or is too old. Send the whole conversation in 'input'.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def _referred_items(request: ResponsesRequest, store: ResponseStore) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if not isinstance(request.input, tuple):
        return found
    for index, item in enumerate(request.input):
        if type(item) is ItemReference and item.id not in found:
            stored = store.item(item.id)
            if stored is None:
                raise NotFound(
                    f"Item with id '{item.id[:64]}' not found. Items are not kept when 'store' is "
                    "false. Send the item itself instead of an item_reference.",
                    param=f"input[{index}].id",
                )
            found[item.id] = stored
    return found


def _own_items(request: ResponsesRequest, referred: dict[str, bytes]) -> Iterator[InputItem]:
    if isinstance(request.input, str):
        yield Message(role="user", content=request.input)
        return
    for item in request.input or ():
        if isinstance(item, ItemReference):
            yield from _TYPED_ITEMS.validate_json(b"[%b]" % referred[item.id])
        else:
            yield item


def _typed(items: Sequence[bytes], request: ResponsesRequest) -> tuple[InputItem, ...]:
    try:
        return _TYPED_ITEMS.validate_json(b"[%b]" % b",".join(items))
    except ValidationError:
        # Kept by another version, or damaged: the client can still send it all.
        raise _unknown_response(request.previous_response_id or "") from None


def _cut_off(items: Sequence[bytes], typed: Sequence[InputItem], body: bytes) -> set[int]:
    """Which are calls that broke off and have no output: no client can run them."""
    calls = {
        index: call
        for index, (item, kind) in enumerate(zip(items, typed, strict=True))
        if isinstance(kind, CallItem) and (call := from_json(item)).get("status") in _UNFINISHED
    }
    if not calls:
        return set()
    answered = {
        item.get("call_id") or item.get("id")
        for item in (*map(from_json, items), *_items_as_sent(body))
        if isinstance(item, dict) and str(item.get("type")).endswith("_output")
    }
    return {index for index, call in calls.items() if call.get("call_id") not in answered}


def _compacted(typed: Sequence[InputItem]) -> set[int]:
    """What the last compaction stands for: all before it but what others than the model said."""
    last = max((i for i, item in enumerate(typed) if isinstance(item, Compaction)), default=0)
    return {index for index, item in enumerate(typed[:last]) if not _outlives(item)}


def _outlives(item: InputItem) -> bool:
    if isinstance(item, Message):
        return item.role != "assistant"
    return isinstance(item, AdditionalTools | ConfigurationUpdate)


def _items_as_sent(body: bytes) -> list[JsonValue]:
    """A client's items with all their keys, which the typed ones have lost."""
    try:
        request = from_json(body)
    except ValueError:
        request = from_json(without_lone_surrogates(body))
    items = request.get("input")
    if isinstance(items, str):
        part: JsonObject = {"type": "input_text", "text": items}
        return [{"type": "message", "role": "user", "content": [part]}]
    return items if isinstance(items, list) else []
