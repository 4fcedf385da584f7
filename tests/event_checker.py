"""What every stream of Responses events must obey (responses-to-chat §7, §8; clients.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

# An event is checked field by field; a static type would claim what the checker is there to prove.
type Event = dict[str, Any]

#: What a check raises: something that is there without being of its form fails in other ways.
FAULTS: Final = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
CHANGING_KEYS: Final = frozenset(
    ["status", "completed_at", "error", "incomplete_details", "output", "usage", "service_tier"]
)
CONSTANT_KEYS: Final = frozenset(
    [
        "id",
        "object",
        "created_at",
        "background",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt_cache_key",
        "reasoning",
        "safety_identifier",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "presence_penalty",
        "frequency_penalty",
        "user",
    ]
)
#: What is repeated only of requests that had it.
HINTS: Final = frozenset({"prompt_cache_retention"})
TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
ID_PREFIXES: Final = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "tool_search_call": "tsc_",
    "local_shell_call": "lsh_",
    "shell_call": "sh_",
    "apply_patch_call": "apc_",
    "compaction": "cmp_",
}
#: What a host's own tools leave in the output; their events are the host's.
HOSTED: Final = frozenset({"web_search_call", "web_extractor_call", "code_interpreter_call"})
#: A delta and its noise fill blocks of so many bytes.
BLOCK: Final = 16
#: The calls whose text grows, and the field that it is in.
GROWING_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
#: The calls that have no events but added and done, and what they are about.
WHOLE_CALLS: Final = {
    "tool_search_call": "arguments",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
CALLS: Final = GROWING_CALLS.keys() | WHOLE_CALLS.keys()
_TEXT_PLACE: Final = frozenset({"item_id", "output_index", "content_index"})
_SUMMARY_PLACE: Final = frozenset({"item_id", "output_index", "summary_index"})
_CALL_PLACE: Final = frozenset({"item_id", "output_index"})
#: What an event has besides ``type`` and ``sequence_number``.
EVENT_KEYS: Final = {
    "response.created": {"response"},
    "response.in_progress": {"response"},
    "response.completed": {"response"},
    "response.incomplete": {"response"},
    "response.failed": {"response"},
    "response.output_item.added": {"output_index", "item"},
    "response.output_item.done": {"output_index", "item"},
    "response.content_part.added": _TEXT_PLACE | {"part"},
    "response.content_part.done": _TEXT_PLACE | {"part"},
    "response.output_text.delta": _TEXT_PLACE | {"delta", "logprobs"},
    "response.output_text.done": _TEXT_PLACE | {"text", "logprobs"},
    "response.output_text.annotation.added": _TEXT_PLACE | {"annotation_index", "annotation"},
    "response.refusal.delta": _TEXT_PLACE | {"delta"},
    "response.refusal.done": _TEXT_PLACE | {"refusal"},
    "response.reasoning_text.delta": _TEXT_PLACE | {"delta"},
    "response.reasoning_text.done": _TEXT_PLACE | {"text"},
    "response.reasoning_summary_part.added": _SUMMARY_PLACE | {"part"},
    "response.reasoning_summary_part.done": _SUMMARY_PLACE | {"part"},
    "response.reasoning_summary_text.delta": _SUMMARY_PLACE | {"delta"},
    "response.reasoning_summary_text.done": _SUMMARY_PLACE | {"text"},
    "response.function_call_arguments.delta": _CALL_PLACE | {"delta"},
    "response.function_call_arguments.done": _CALL_PLACE | {"name", "arguments"},
    "response.custom_tool_call_input.delta": _CALL_PLACE | {"delta"},
    "response.custom_tool_call_input.done": _CALL_PLACE | {"input"},
    "response.compaction.compacting": _CALL_PLACE,
}
#: What an item has besides ``type``, ``id`` and ``status``, and what it may have.
ITEM_KEYS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "message": ({"role", "content"}, set()),
    "reasoning": ({"summary"}, {"content", "encrypted_content"}),
    "function_call": ({"call_id", "name", "arguments"}, {"namespace"}),
    "custom_tool_call": ({"call_id", "name", "input"}, {"namespace"}),
    "tool_search_call": ({"call_id", "execution", "arguments"}, set()),
    "local_shell_call": ({"call_id", "action"}, set()),
    "shell_call": ({"call_id", "action", "environment"}, set()),
    "apply_patch_call": ({"call_id", "operation"}, set()),
    "compaction": ({"encrypted_content"}, set()),
}
PART_KEYS: Final = {
    "output_text": {"type", "text", "annotations", "logprobs"},
    "refusal": {"type", "refusal"},
    "reasoning_text": {"type", "text"},
    "summary_text": {"type", "text"},
}
#: Those that clients act on (responses-to-chat §10).
ERROR_CODES: Final = frozenset(
    [
        "context_length_exceeded",
        "insufficient_quota",
        "rate_limit_exceeded",
        "server_is_overloaded",
        "slow_down",
        "invalid_prompt",
        "usage_not_included",
        "bio_policy",
        "cyber_policy",
        "server_error",
    ]
)
PART_KINDS: Final = {
    "output_text": ("message", "text"),
    "refusal": ("message", "refusal"),
    "reasoning_text": ("reasoning", "text"),
    "summary_text": ("reasoning", "text"),
}


def events_of(stream: bytes) -> list[Event]:
    """The events of a whole stream, whose framing is checked on the way."""
    text = stream.decode("utf-8")
    assert text.endswith("\n\n"), "the stream does not end with a blank line"
    frames = text[:-2].split("\n\n")
    assert frames[-1] == "data: [DONE]", "the stream does not end with [DONE]"
    return [_event(frame) for frame in frames[:-1]]


def _event(frame: str) -> Event:
    lines = frame.split("\n")
    assert len(lines) == 2, f"a frame has {len(lines)} lines: {frame[:200]}"
    assert lines[0].startswith("event: "), f"a frame does not name its event: {frame[:200]}"
    assert lines[1].startswith("data: "), f"a frame has no data: {frame[:200]}"
    event: Event = json.loads(lines[1].removeprefix("data: "))
    name = lines[0].removeprefix("event: ")
    assert name == event["type"], f"the frame is named {name}, its type is {event['type']}"
    return event


def check_stream(stream: bytes, *, whole: bool, native: bool = False) -> None:
    """A stream as a client gets it, with heartbeats; or the beginning of one."""
    whole_frames = stream if whole else stream[: stream.rfind(b"\n\n") + 2]
    frames = whole_frames.decode("utf-8").split("\n\n")
    text = "\n\n".join(frame for frame in frames if not frame.startswith(":"))
    if whole or "data: [DONE]" in frames:
        check_events(events_of(text.encode("utf-8")), native=native)
    elif text:
        frames = text.removesuffix("\n\n").split("\n\n")
        check_beginning([_event(frame) for frame in frames], native=native)


def check_events(events: list[Event], *, native: bool = False) -> None:
    """Raises an AssertionError that says which rule the events of one whole response break.

    ``native``: of an upstream that speaks Responses itself, which says itself when a call is done.
    """
    types = [event["type"] for event in events]
    terminal = [name for name in types if name in TERMINAL]
    assert len(terminal) == 1, f"a response has one terminal event, not {terminal}"
    assert types[-1] == terminal[0], f"events follow {terminal[0]}: {types[-1]}"
    check_beginning(events, native=native)


def check_beginning(events: list[Event], *, native: bool = False) -> None:
    """The same for a response of which not all events are there."""
    types = [event["type"] for event in events[:2]]
    assert types == ["response.created", "response.in_progress"][: len(types)], (
        f"a response starts with created and in_progress, not with {types}"
    )
    for number, event in enumerate(events):
        assert event.get("sequence_number") == number, (
            f"event {number} ({event['type']}) has sequence_number {event.get('sequence_number')}"
        )
    if events:
        checker = _Checker(events[0]["response"], events[0].get("stream_id"), native)
        for event in events:
            checker.take(event)


@dataclass
class _Part:
    type: str
    text: str = ""
    logprobs: list[Any] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    text_done: bool = False
    done: bool = False
    value: Any = None


@dataclass
class _Item:
    added: Event
    parts: list[_Part] = field(default_factory=list)
    arguments: str = ""
    arguments_done: bool = False
    done: Event | None = None

    @property
    def name(self) -> str:
        return f"{self.added['type']} {self.added['id']}"


class _Checker:
    def __init__(self, first: Event, lane: object, native: bool) -> None:
        self._first = first
        self._native = native
        self._lane = lane
        self._items: list[_Item] = []
        self._obfuscated: bool | None = None
        self._handlers: dict[str, Callable[[Event], None]] = {
            "response.created": self._running,
            "response.in_progress": self._running,
            "response.output_item.added": self._added,
            "response.output_item.done": self._done,
            "response.content_part.added": self._part_added,
            "response.content_part.done": self._part_done,
            "response.reasoning_summary_part.added": self._part_added,
            "response.reasoning_summary_part.done": self._part_done,
            "response.function_call_arguments.delta": self._arguments_delta,
            "response.function_call_arguments.done": self._arguments_done,
            "response.output_text.annotation.added": self._annotated,
            "response.custom_tool_call_input.delta": self._arguments_delta,
            "response.custom_tool_call_input.done": self._arguments_done,
            "response.compaction.compacting": self._compacting,
            "response.completed": self._terminal,
            "response.incomplete": self._terminal,
            "response.failed": self._terminal,
        }
        for text in ("output_text", "refusal", "reasoning_text", "reasoning_summary_text"):
            self._handlers[f"response.{text}.delta"] = self._text_delta
            self._handlers[f"response.{text}.done"] = self._text_done

    def take(self, event: Event) -> None:
        handler = self._handlers.get(event["type"])
        if event["type"].split(".")[1] in HOSTED:
            handler = self._of_the_host
        assert handler is not None, f"there is no event {event['type']}"
        if handler != self._of_the_host:
            self._check_keys(event)
        handler(event)

    def _check_keys(self, event: Event) -> None:
        expected = {"type", "sequence_number", *EVENT_KEYS[event["type"]]}
        # The events of a lane of WebSocket mode name it (§13).
        expected |= set() if self._lane is None else {"stream_id"}
        assert event.get("stream_id") == self._lane, f"{event['type']} is of another lane"
        if event["type"].endswith(".delta"):
            # All deltas of a response have it, or none (§3).
            obfuscated = "obfuscation" in event
            before = self._obfuscated
            assert before in (None, obfuscated), f"{event['type']}: obfuscation sometimes"
            self._obfuscated = obfuscated
            if obfuscated:
                assert type(event["obfuscation"]) is str, "obfuscation is no string"
                expected.add("obfuscation")
        assert event.keys() == expected, (
            f"{event['type']}: keys {sorted(event.keys() ^ expected)} are wrong or missing"
        )
        for place in ("output_index", "content_index", "summary_index"):
            assert type(event.get(place, 0)) is int, f"{event['type']}: {place} is no integer"
        if "delta" in event:
            assert type(event["delta"]) is str, f"{event['type']}: the delta is no string"

    def _snapshot(self, event: Event) -> Event:
        response: Event = event["response"]
        keys = CONSTANT_KEYS | CHANGING_KEYS
        assert response.keys() - HINTS == keys, (
            f"{event['type']}: keys {sorted(response.keys() - HINTS ^ keys)} are wrong or missing"
        )
        for key in CONSTANT_KEYS | HINTS:
            assert response.get(key) == self._first.get(key), f"{event['type']}: {key} has changed"
        assert response["object"] == "response", "object is not response"
        assert response["id"].startswith("resp_"), f"the response has id {response['id']}"
        assert type(response["created_at"]) is int, "created_at is not an integer"
        assert type(response["service_tier"]) is str, "service_tier is not a string"
        return response

    def _running(self, event: Event) -> None:
        response = self._snapshot(event)
        assert response["status"] == "in_progress", f"{event['type']}: {response['status']}"
        assert response["output"] == [], f"{event['type']}: there is output already"
        for key in ("usage", "error", "incomplete_details", "completed_at"):
            assert response[key] is None, f"{event['type']}: {key} is not null"

    def _added(self, event: Event) -> None:
        item = event["item"]
        assert event["output_index"] == len(self._items), (
            f"item {len(self._items)} has output_index {event['output_index']}"
        )
        if item["type"] not in HOSTED:
            self._check_item_keys(item)
        for other in self._items:
            closed_call = other.added["type"] in CALLS and other.done is not None
            assert self._native or not closed_call, f"{item['id']} is added after {other.name}"
        if item["type"] not in HOSTED:
            prefix = ID_PREFIXES[item["type"]]
            assert item["id"].startswith(prefix), f"a {item['type']} has id {item['id']}"
        assert item["id"] not in {it.added["id"] for it in self._items}, f"{item['id']} comes twice"
        if item["type"] == "compaction":
            assert item == {"type": "compaction", "id": item["id"], "encrypted_content": ""}
        else:
            assert item["status"] == "in_progress", f"{item['id']} is added as {item['status']}"
        for key in ("content", "summary"):
            told = item["type"] not in HOSTED and item.get(key)
            assert not told, f"{item['id']} is added with {key}"
        if item["type"] in CALLS:
            self._check_new_call(item)
        texts = [it for it in self._items if it.added["type"] not in CALLS | HOSTED]
        for other in texts:
            assert other.done is not None, f"{item['id']} is added while {other.name} is open"
        if item["type"] == "reasoning":
            assert item["summary"] == [], f"{item['id']} has no summary"
        self._items.append(_Item(item))

    def _check_item_keys(self, item: Event) -> None:
        required, optional = ITEM_KEYS[item["type"]]
        keys = item.keys() - {"type", "id", "status"}
        assert required <= keys <= required | optional, (
            f"{item['id']}: keys {sorted(keys ^ required)} are wrong or missing"
        )
        for key in {"name", "namespace", "arguments", "input", "encrypted_content"} & keys:
            is_object = item["type"] == "tool_search_call" and key == "arguments"
            assert type(item[key]) is (dict if is_object else str), f"{item['id']}: {key}"
        if item["type"] == "message":
            assert item["role"] == "assistant", f"{item['id']} has the role {item['role']}"
        if item["type"] == "tool_search_call":
            assert item["execution"] == "client", f"{item['id']} is executed by nobody"
        for part in [*item.get("content", []), *item.get("summary", [])]:
            self._check_part_keys(part)

    def _check_part_keys(self, part: Event) -> None:
        assert part.keys() == PART_KEYS[part["type"]], f"a part is {part}"

    def _check_new_call(self, item: Event) -> None:
        if item["type"] in GROWING_CALLS:
            key = GROWING_CALLS[item["type"]]
            assert item[key] == "", f"{item['id']} is added with {key}"
            assert item["name"], f"{item['id']} has no name"
        else:
            assert type(item[WHOLE_CALLS[item["type"]]]) is dict, f"{item['id']} is about nothing"
            assert "name" not in item, f"{item['id']} has a name"
        assert item["call_id"], f"{item['id']} has no call_id"
        assert item["id"] != ID_PREFIXES[item["type"]] + item["call_id"], (
            f"{item['id']} is made from its call_id"
        )
        call_ids = {it.added.get("call_id") for it in self._items}
        assert item["call_id"] not in call_ids, f"{item['call_id']} comes twice"

    def _open_item(self, event: Event) -> _Item:
        index = event["output_index"]
        assert index < len(self._items), f"{event['type']} comes before its item {index}"
        item = self._items[index]
        assert event.get("item_id", item.added["id"]) == item.added["id"], (
            f"{event['type']} for item {index} has item_id {event.get('item_id')}"
        )
        assert item.done is None, f"{event['type']} comes after {item.name} is done"
        return item

    def _part_added(self, event: Event) -> None:
        item = self._open_item(event)
        kind = event["part"]["type"]
        self._check_part_keys(event["part"])
        item_type, key = PART_KINDS[kind]
        assert item_type == item.added["type"], f"{item.name} has a part {kind}"
        assert event["part"][key] == "", f"a part of {item.name} is added with text"
        is_summary = event["type"] == "response.reasoning_summary_part.added"
        assert is_summary == (kind == "summary_text"), f"{event['type']} has a part {kind}"
        assert all(part.done for part in item.parts), f"{item.name} has two open parts"
        assert self._index(event) == len(item.parts), f"{item.name}: part indices are not dense"
        item.parts.append(_Part(kind))

    def _index(self, event: Event) -> int:
        key = "summary_index" if "reasoning_summary" in event["type"] else "content_index"
        assert type(event.get(key)) is int, f"{event['type']} has no {key}"
        index: int = event[key]
        return index

    def _open_part(self, event: Event) -> tuple[_Item, _Part]:
        item = self._open_item(event)
        index = self._index(event)
        assert index < len(item.parts), f"{event['type']} comes before its part {index}"
        part = item.parts[index]
        assert not part.done, f"{event['type']} comes after the part {index} of {item.name} is done"
        return item, part

    def _text_delta(self, event: Event) -> None:
        item, part = self._open_part(event)
        self._check_text_type(event, part)
        assert not part.text_done, f"{item.name} has a delta after its text is done"
        self._check_delta(event, item)
        if part.type == "output_text":
            assert type(event["logprobs"]) is list, f"{item.name} has a delta without logprobs"
            for logprob in event["logprobs"]:
                self._check_logprob(logprob, {"token", "logprob"})
            part.logprobs += event["logprobs"]
        part.text += event["delta"]

    def _check_delta(self, event: Event, item: _Item) -> None:
        assert event["delta"], f"{item.name} has an empty delta"
        if self._obfuscated:
            told = json.dumps(event["delta"], ensure_ascii=False) + event["obfuscation"]
            size = len(told.encode("utf-8", "backslashreplace"))
            assert size % BLOCK == 0, f"{item.name} has a delta of {size} bytes with its noise"

    def _check_logprob(self, logprob: Event, keys: set[str]) -> None:
        assert logprob.keys() == keys | {"top_logprobs"}, f"a logprob is {logprob}"
        for alternative in logprob["top_logprobs"]:
            assert alternative.keys() == keys, f"an alternative is {alternative}"

    def _annotated(self, event: Event) -> None:
        item, part = self._open_part(event)
        assert event["annotation_index"] == len(part.annotations), (
            f"{item.name}: annotation indices are not dense"
        )
        part.annotations.append(event["annotation"])

    def _check_text_type(self, event: Event, part: _Part) -> None:
        name = event["type"].split(".")[1].replace("reasoning_summary_text", "summary_text")
        assert name == part.type, f"{event['type']} is for a part {part.type}"

    def _text_done(self, event: Event) -> None:
        item, part = self._open_part(event)
        self._check_text_type(event, part)
        assert not part.text_done, f"the text of {item.name} is done twice"
        text = event[PART_KINDS[part.type][1]]
        assert text == part.text, f"{item.name}: done text {text!r} is not the deltas {part.text!r}"
        if part.type == "output_text":
            assert event["logprobs"] == part.logprobs, f"{item.name}: other logprobs when done"
        part.text_done = True

    def _part_done(self, event: Event) -> None:
        item, part = self._open_part(event)
        value = event["part"]
        assert part.text_done, f"a part of {item.name} is done before its text"
        assert value["type"] == part.type, f"a part of {item.name} has changed its type"
        self._check_part_keys(value)
        assert value[PART_KINDS[part.type][1]] == part.text, f"{item.name}: other text in the part"
        if part.type == "output_text":
            assert value["annotations"] == part.annotations, f"{item.name} has other annotations"
            assert len(value["logprobs"]) == len(part.logprobs), f"{item.name} loses logprobs"
            for logprob in value["logprobs"]:
                self._check_logprob(logprob, {"token", "logprob", "bytes"})
        part.done = True
        part.value = value

    def _open_call(self, event: Event) -> _Item:
        item = self._open_item(event)
        kind = item.added["type"]
        assert event["type"].startswith(f"response.{kind}_{GROWING_CALLS.get(kind)}."), (
            f"{event['type']} is for {item.name}"
        )
        assert not item.arguments_done, f"{event['type']} after the arguments of {item.name}"
        return item

    def _arguments_delta(self, event: Event) -> None:
        item = self._open_call(event)
        self._check_delta(event, item)
        item.arguments += event["delta"]

    def _arguments_done(self, event: Event) -> None:
        item = self._open_call(event)
        value = event[GROWING_CALLS[item.added["type"]]]
        assert value == item.arguments, (
            f"{item.name}: the done text {value!r} is not the deltas {item.arguments!r}"
        )
        if item.added["type"] == "function_call":
            assert event["name"] == item.added["name"], f"{item.name}: other name in arguments.done"
        item.arguments_done = True

    def _of_the_host(self, event: Event) -> None:
        item = self._open_item(event)
        assert event["type"].startswith(f"response.{item.added['type']}."), (
            f"{event['type']} is for {item.name}"
        )
        assert event["item_id"] == item.added["id"], f"{event['type']} does not name its item"

    def _compacting(self, event: Event) -> None:
        item = self._open_item(event)
        assert item.added["type"] == "compaction", f"{event['type']} is for {item.name}"
        assert event["item_id"] == item.added["id"], f"{event['type']} does not name its item"

    def _compaction_done(self, item: _Item, value: Event) -> None:
        assert len(self._items) == 1, "a compaction is not alone"
        assert value["encrypted_content"], f"{item.name} is empty"
        assert {**value, "encrypted_content": ""} == item.added, f"{item.name} has changed"
        item.done = value

    def _done(self, event: Event) -> None:
        item = self._open_item(event)
        value = event["item"]
        if item.added["type"] == "compaction":
            self._compaction_done(item, value)
            return
        if item.added["type"] in HOSTED:
            assert value["id"] == item.added["id"], f"{item.name}: id has changed"
            item.done = value
            return
        self._check_cut(item, value, ("completed", "incomplete"))
        self._check_item(item, value)
        for part in item.parts:
            assert part.done, f"{item.name} is done before its part"
        if value["type"] in GROWING_CALLS:
            assert item.arguments_done, f"{item.name} is done before its text"
            if value["type"] == "function_call" and value["status"] == "completed":
                assert value["arguments"].strip(), f"{item.name} is completed without arguments"
        elif value["type"] == "message":
            assert value["content"] == [part.value for part in item.parts], (
                f"{item.name}: other content in the item than in its parts"
            )
        item.done = value

    def _check_cut(self, item: _Item, value: Event, statuses: tuple[str, ...]) -> None:
        # OpenAI's type of a patch has no "incomplete".
        if value["type"] == "apply_patch_call":
            statuses = tuple(it.replace("incomplete", "in_progress") for it in statuses)
        assert value["status"] in statuses, f"{item.name} is {value['status']}"

    def _check_item(self, item: _Item, value: Event) -> None:
        """An item as it is now, against all that the events have told of it."""
        self._check_item_keys(value)
        for key in ("type", "id", "call_id", "name", "namespace", "role"):
            assert value.get(key) == item.added.get(key), f"{item.name}: {key} has changed"
        if value["type"] in GROWING_CALLS:
            text = value[GROWING_CALLS[value["type"]]]
            assert text == item.arguments, f"{item.name}: other text than in the deltas"
            return
        if value["type"] in WHOLE_CALLS:
            assert {**value, "status": "in_progress"} == item.added, f"{item.name} has changed"
            return
        parts = [*value.get("content", []), *value.get("summary", [])]
        texts = [(part["type"], part[PART_KINDS[part["type"]][1]]) for part in parts]
        expected = [(part.type, part.text) for part in item.parts]
        assert texts == expected, f"{item.name} has {texts}, the deltas were {expected}"

    def _terminal(self, event: Event) -> None:
        response = self._snapshot(event)
        status = event["type"].removeprefix("response.")
        assert response["status"] == status, f"{event['type']} has status {response['status']}"
        self._check_usage(response["usage"])
        details = response["incomplete_details"]
        assert (response["error"] is not None) == (status == "failed"), "error is out of place"
        assert (details is not None) == (status == "incomplete"), "incomplete_details out of place"
        assert (type(response["completed_at"]) is int) == (status == "completed"), (
            f"completed_at is {response['completed_at']} in {event['type']}"
        )
        assert (response["completed_at"] or response["created_at"]) >= response["created_at"], (
            "the response was completed before it was created"
        )
        if status == "failed":
            self._check_failed(response)
            return
        if details is not None:
            assert details["reason"] in ("max_output_tokens", "content_filter"), f"{details}"
        for item in self._items:
            assert item.done is not None, f"{item.name} is not done before {event['type']}"
            if status == "completed" and item.added["type"] != "compaction":
                assert item.done["status"] == "completed", f"{item.name} is not completed"
            elif item.added["type"] not in CALLS and item is not self._items[-1]:
                # The calls after it may be cut all the same (§10).
                assert item.done["status"] == "completed", f"{item.name} is cut but not the last"
        assert response["output"] == [item.done for item in self._items], (
            "the output is not the items as they were done"
        )

    def _check_failed(self, response: Event) -> None:
        error = response["error"]
        assert error.keys() == {"code", "message"}, f"the error is {error}"
        assert error["code"] in ERROR_CODES, f"no client knows the code {error['code']}"
        assert error["message"], "the error has no message"
        # A compaction has no status that says that it was cut, so it is there whole or not at all.
        items = [it for it in self._items if it.done or it.added["type"] != "compaction"]
        assert len(response["output"]) == len(items), "the output has other items"
        for item, value in zip(items, response["output"], strict=True):
            if item.done is not None:
                assert value == item.done, f"{item.name} has changed since it was done"
                continue
            if item.added["type"] in HOSTED:
                assert value["id"] == item.added["id"], f"{item.name}: id has changed"
                continue
            self._check_cut(item, value, ("incomplete",))
            self._check_item(item, value)

    def _check_usage(self, usage: Any) -> None:
        assert usage is not None, "the terminal event has no usage"
        assert usage.keys() == {
            "input_tokens",
            "input_tokens_details",
            "output_tokens",
            "output_tokens_details",
            "total_tokens",
        }, f"usage is {usage}"
        counts = [
            usage["input_tokens"],
            usage["output_tokens"],
            usage["total_tokens"],
            usage["input_tokens_details"]["cached_tokens"],
            usage["input_tokens_details"]["cache_write_tokens"],
            usage["output_tokens_details"]["reasoning_tokens"],
        ]
        assert all(type(count) is int and count >= 0 for count in counts), f"usage is {usage}"
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], (
            f"usage does not add up: {usage}"
        )
