from __future__ import annotations

import json

import pytest

from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.items import Message, Reasoning, open_call
from qwen_mitm.translate.parts import OUTPUT_TEXT, REFUSAL
from qwen_mitm.translate.tools import ToolRoute
from tests.event_checker import Event


def written(events: EventWriter) -> list[Event]:
    frames = events.take().decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(frame.split("\ndata: ")[1]) for frame in frames]


def test_text_after_a_refusal_is_a_third_part() -> None:
    events = EventWriter()
    message = Message(events, "msg_1", 0)
    for kind, text in ((OUTPUT_TEXT, "a"), (REFUSAL, "b"), (OUTPUT_TEXT, "c"), (OUTPUT_TEXT, "d")):
        message.part(kind).append(text)
    message.close("completed")
    content = written(events)[-1]["item"]["content"]
    assert [part.get("text", part.get("refusal")) for part in content] == ["a", "b", "cd"]


def test_namespace_is_a_field_of_its_own() -> None:
    events = EventWriter()
    call = open_call(events, "fc_1", 0, "call_1", ToolRoute("function", "agents", "close"))
    call.append("{}")
    call.close("completed")
    items = [event["item"] for event in written(events) if "item" in event]
    assert [(item["namespace"], item["name"]) for item in items] == [("agents", "close")] * 2


@pytest.mark.parametrize("pieces", [[""], [" ", ""], ["null"], ["nu", "ll"], [" null "]])
def test_arguments_that_are_none_become_an_empty_object(pieces: list[str]) -> None:
    events = EventWriter()
    call = open_call(events, "fc_1", 0, "call_1", ToolRoute("function", None, "ping"))
    for piece in pieces:
        call.append(piece)
    call.close("completed")
    assert [event.get("delta") for event in written(events)] == [None, "{}", None, None]


@pytest.mark.parametrize("pieces", [["nul"], ["n", "o"], ["12"], ["[]"]])
def test_other_arguments_that_are_no_object_stay(pieces: list[str]) -> None:
    call = open_call(EventWriter(), "fc_1", 0, "call_1", ToolRoute("function", None, "ping"))
    for piece in pieces:
        call.append(piece)
    call.close("completed")
    assert call.arguments == "".join(pieces)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("summary", {"summary": [{"type": "summary_text", "text": "hm"}]}),
        ("content", {"summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}),
    ],
)
def test_thought_is_in_the_family_that_was_asked_for(family: str, fields: Event) -> None:
    thought = Reasoning(
        EventWriter(), "rs_1", 0, "summary" if family == "summary" else "content", None
    )
    thought.part.append("hm")
    thought.close("completed")
    assert thought.as_json("completed") == {
        "type": "reasoning",
        "id": "rs_1",
        **fields,
        "status": "completed",
    }
