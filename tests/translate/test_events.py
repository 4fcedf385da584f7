from __future__ import annotations

import json

from qwen_mitm.translate.events import DeltaFrame, EventWriter


def test_delta_frame_is_what_json_would_have_made() -> None:
    events = EventWriter()
    events.write("response.x", {"a": 1})
    events.write_delta(DeltaFrame("response.refusal.delta", {"item_id": "msg_1"}), 'say "é"')
    first, second, rest = events.take().decode().split("\n\n")
    assert first == 'event: response.x\ndata: {"type":"response.x","a":1,"sequence_number":0}'
    name, data = second.split("\n")
    assert name == "event: response.refusal.delta"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "response.refusal.delta",
        "item_id": "msg_1",
        "delta": 'say "é"',
        "sequence_number": 1,
    }
    assert rest == ""


def test_lone_surrogates_become_escapes() -> None:
    events = EventWriter()
    events.write_delta(DeltaFrame("response.x.delta", {"item_id": "m"}), "a\ud83d\\\udc00é")
    data = events.take().decode().split("data: ")[1]
    assert json.loads(data)["delta"] == "a\ud83d\\\udc00é"


def test_nothing_to_take_is_empty() -> None:
    assert EventWriter().take() == b""
