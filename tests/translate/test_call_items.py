from __future__ import annotations

import json
from typing import Any

import pytest

from qwen_mitm.translate.call_items import CALL_ITEMS, CallItem, CallStart
from qwen_mitm.translate.definitions import ToolKind
from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.tools import ToolRoute
from tests.event_checker import Event
from tests.translate.test_items import written


def opened(
    events: EventWriter,
    kind: ToolKind = "function",
    namespace: str | None = None,
    arguments: str = "",
) -> CallItem:
    made = CALL_ITEMS[kind]
    route = ToolRoute(kind, namespace, "close" if kind in ("function", "custom") else kind)
    return made(CallStart(events, f"{made.id_prefix}_1", 0, "call_1", route, arguments))


@pytest.mark.parametrize("kind", ["function", "custom"])
def test_namespace_is_a_field_of_its_own(kind: ToolKind) -> None:
    events = EventWriter()
    call = opened(events, kind, "agents")
    call.append("{}")
    call.close("completed")
    items = [event["item"] for event in written(events) if "item" in event]
    assert [(item["namespace"], item["name"]) for item in items] == [("agents", "close")] * 2


@pytest.mark.parametrize("pieces", [[""], [" ", ""], ["null"], ["nu", "ll"], [" null "]])
def test_arguments_that_are_none_become_an_empty_object(pieces: list[str]) -> None:
    events = EventWriter()
    call = opened(events)
    for piece in pieces:
        call.append(piece)
    call.close("completed")
    assert [event.get("delta") for event in written(events)] == [None, "{}", None, None]


@pytest.mark.parametrize("pieces", [["nul"], ["n", "o"], ["12"], ["[]"]])
def test_other_arguments_that_are_no_object_stay(pieces: list[str]) -> None:
    call = opened(EventWriter())
    for piece in pieces:
        call.append(piece)
    call.close("completed")
    assert call.as_json("completed")["arguments"] == "".join(pieces)


def test_custom_call_has_events_of_its_own_and_its_text_is_unwrapped() -> None:
    events = EventWriter()
    call = opened(events, "custom", arguments='{"input": "a')
    call.append('\\nb"')
    call.append("}")
    call.close("completed")
    assert [
        (event["type"], event.get("delta", event.get("input"))) for event in written(events)
    ] == [
        ("response.output_item.added", None),
        ("response.custom_tool_call_input.delta", "a"),
        ("response.custom_tool_call_input.delta", "\nb"),
        ("response.custom_tool_call_input.done", "a\nb"),
        ("response.output_item.done", None),
    ]
    assert call.as_json("completed") == {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "call_1",
        "name": "close",
        "input": "a\nb",
        "status": "completed",
    }


@pytest.mark.parametrize(
    ("kind", "arguments", "fields"),
    [
        (
            "tool_search",
            {"query": "mail", "limit": 3},
            {
                "type": "tool_search_call",
                "execution": "client",
                "arguments": {"query": "mail", "limit": 3},
            },
        ),
        (
            "local_shell",
            {"command": ["ls", "-l"], "timeout_ms": 9},
            {
                "type": "local_shell_call",
                "action": {"type": "exec", "command": ["ls", "-l"], "env": {}, "timeout_ms": 9},
            },
        ),
        (
            "shell",
            {"commands": ["ls"]},
            {
                "type": "shell_call",
                "action": {"commands": ["ls"]},
                "environment": {"type": "local"},
            },
        ),
        (
            "apply_patch",
            {"type": "delete_file", "path": "a"},
            {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
        ),
    ],
)
def test_built_in_call_is_added_whole_and_done(
    kind: ToolKind, arguments: dict[str, Any], fields: Event
) -> None:
    events = EventWriter()
    call = opened(events, kind, arguments=json.dumps(arguments))
    call.append("\n")
    call.close("completed")
    item = {**fields, "id": call.id, "call_id": "call_1"}
    assert [(event["type"], event["item"]) for event in written(events)] == [
        ("response.output_item.added", {**item, "status": "in_progress"}),
        ("response.output_item.done", {**item, "status": "completed"}),
    ]
    assert CALL_ITEMS[kind].opens_whole


def test_patch_of_a_cut_answer_is_not_completed() -> None:
    call = opened(EventWriter(), "apply_patch", arguments="{}")
    call.close("incomplete")
    assert call.as_json("incomplete")["status"] == "in_progress"
