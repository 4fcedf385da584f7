from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from tests.event_checker import FAULTS, Event, check_events, check_stream, events_of
from tests.translate.answers import DONE, Answer, answer, call, chunk, event, text, thought
from tests.translate.sending import translated

TOOLS = [{"type": "custom", "name": "c"}, {"type": "shell"}]


@pytest.fixture(scope="module")
def good() -> Answer:
    return answer(
        thought("hm"),
        text("Hello"),
        call('{"a":1}', index=0, id="call_a", name="f"),
        call('{"input":"x"}', index=1, id="call_b", name="c"),
        call('{"commands":["ls"]}', index=2, id="call_c", name="shell"),
        chunk(finish="tool_calls"),
        DONE,
        tools=translated({"input": "x", "tools": TOOLS}).tools,
    )


def first(events: list[Event], type_: str) -> Event:
    return next(event for event in events if event["type"] == f"response.{type_}")


def without(type_: str) -> Callable[[list[Event]], None]:
    def fault(events: list[Event]) -> None:
        events.remove(first(events, type_))
        for number, each in enumerate(events):
            each["sequence_number"] = number

    return fault


def changed(type_: str, *path: str, to: object) -> Callable[[list[Event]], None]:
    def fault(events: list[Event]) -> None:
        *outer, last = path
        value = first(events, type_)
        for key in outer:
            value = value[key]
        value[last] = to

    return fault


@pytest.mark.parametrize(
    "fault",
    [
        without("created"),
        without("in_progress"),
        without("output_item.added"),
        without("output_item.done"),
        without("content_part.added"),
        without("content_part.done"),
        without("output_text.delta"),
        without("output_text.done"),
        without("function_call_arguments.delta"),
        without("function_call_arguments.done"),
        without("custom_tool_call_input.delta"),
        without("custom_tool_call_input.done"),
        changed(
            "custom_tool_call_input.delta", "type", to="response.function_call_arguments.delta"
        ),
        changed("custom_tool_call_input.done", "input", to="y"),
        changed("custom_tool_call_input.delta", "output_index", to=4),
        changed("output_item.added", "item", "call_id", to="call_b"),
        without("completed"),
        changed("created", "sequence_number", to=7),
        changed("in_progress", "response", "id", to="resp_other"),
        changed("in_progress", "response", "end_turn", to=False),
        changed("output_item.added", "output_index", to=1),
        changed("output_item.added", "item", "id", to="rs_other"),
        changed("output_text.delta", "item_id", to="msg_other"),
        changed("output_text.delta", "content_index", to=1),
        changed("output_text.delta", "logprobs", to=None),
        changed("output_text.done", "text", to="Hell"),
        changed("output_item.done", "item", "status", to="in_progress"),
        changed("completed", "response", "status", to="failed"),
        changed("completed", "response", "output", to=[]),
        changed("completed", "response", "usage", to=None),
        changed("completed", "response", "usage", "total_tokens", to=1.5),
        changed("completed", "type", to="error"),
        lambda events: events.append(deepcopy(events[-1])),
        changed("output_text.delta", "extra", to=1),
        changed("output_text.delta", "obfuscation", to="x"),
        changed("output_text.delta", "delta", to=""),
        changed("output_text.delta", "logprobs", to=[{"token": "a"}]),
        changed("output_item.added", "item", "extra", to=1),
        changed("output_item.added", "item", "summary", to=None),
        changed("content_part.added", "part", "annotations", to=[]),
        changed("function_call_arguments.done", "name", to="g"),
        changed("in_progress", "stream_id", to="lane"),
        changed("completed", "response", "completed_at", to=1),
        changed("completed", "response", "usage", "extra", to=1),
        changed("completed", "response", "output", to=None),
    ],
)
def test_fault_in_a_stream_is_found(good: Answer, fault: Callable[[list[Event]], None]) -> None:
    events = deepcopy(good.events)
    fault(events)
    with pytest.raises(FAULTS):
        check_events(events)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"data: [DONE]\n\n", b""),
        (b"event: response.created\n", b""),
        (b"event: response.created\n", b"event: response.made\n"),
        (b"event: response.created\n", b"id: 1\nevent: response.created\n"),
    ],
)
def test_fault_in_the_framing_is_found(good: Answer, old: bytes, new: bytes) -> None:
    with pytest.raises(AssertionError):
        events_of(good.stream.replace(old, new))


def test_the_beginning_of_a_stream_is_checked_as_far_as_it_came(good: Answer) -> None:
    check_stream(good.stream[: len(good.stream) // 2], whole=False)
    check_stream(b": keep-alive\n\n" + good.stream, whole=True)
    wrong = good.stream.replace(b'"sequence_number":3', b'"sequence_number":4')
    with pytest.raises(AssertionError):
        check_stream(wrong[: len(wrong) // 2], whole=False)
    with pytest.raises(AssertionError):
        check_stream(good.stream[: len(good.stream) // 2], whole=True)


@pytest.mark.parametrize("code", [None, "", "teapot"])
def test_an_error_code_that_no_client_knows_is_found(code: str | None) -> None:
    events = deepcopy(answer(text("Hi"), event({"error": {"message": "No."}})).events)
    events[-1]["response"]["error"]["code"] = code
    with pytest.raises(AssertionError):
        check_events(events)
