from __future__ import annotations

import json

import pytest

from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.items import Message, Reasoning
from qwen_mitm.translate.parts import OUTPUT_TEXT, REFUSAL
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
    thought.append("hm")
    thought.close("completed")
    assert thought.as_json("completed") == {
        "type": "reasoning",
        "id": "rs_1",
        **fields,
        "status": "completed",
    }
