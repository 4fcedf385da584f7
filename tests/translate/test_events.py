from __future__ import annotations

import json

import pytest

from qwen_mitm.translate.events import BLOCK, DeltaFrame, EventWriter, ObfuscatingWriter


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


@pytest.mark.parametrize("text", ["a", "Hi", "é", "\U0001f600", 'say "x"\n', "a" * 13, "a" * 14])
def test_noise_fills_the_block_that_a_delta_begins(text: str) -> None:
    events = ObfuscatingWriter("x".__mul__)
    frame = DeltaFrame("response.output_text.delta", {"item_id": "m"})
    events.write_delta(frame, text)
    event = json.loads(events.take().decode().split("data: ")[1])

    noise = event.pop("obfuscation")
    assert len(json.dumps(text, ensure_ascii=False).encode() + noise.encode()) % BLOCK == 0
    assert len(noise) < BLOCK
    assert events.padding(text) == {"obfuscation": noise}
    plain = EventWriter()
    plain.write_delta(frame, text)
    assert json.loads(plain.take().decode().split("data: ")[1]) == event


def test_deltas_of_about_one_length_are_not_told_apart_by_size() -> None:
    events = ObfuscatingWriter("x".__mul__)
    sizes = set()
    for text in ("a", "to", "the", "tree", "branch", "branches"):
        events.write_delta(DeltaFrame("response.output_text.delta", {"item_id": "m"}), text)
        sizes.add(len(events.take()))
    assert len(sizes) == 1
