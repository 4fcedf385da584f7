from __future__ import annotations

import json

import pytest

from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat import AnswerReader, Failure
from qwen_mitm.wire.response_object import JsonObject, ResponseEcho
from tests.event_checker import check_events, events_of
from tests.translate.answers import (
    DONE,
    answer,
    call,
    chunk,
    event,
    fragment,
    plain_context,
    text,
    thought,
    usage,
)
from tests.translate.sending import translated

CUT = Failure("The connection to the upstream broke.")


def running(*pieces: bytes) -> tuple[Assembler, bytes]:
    reader = AnswerReader()
    assembler = Assembler(plain_context())
    stream = b"".join(assembler.feed(reader.feed(piece)) for piece in pieces)
    return assembler, stream


def test_start_writes_created_and_in_progress_once() -> None:
    assembler = Assembler(plain_context())
    assert [line for line in assembler.start().split(b"\n") if line.startswith(b"event")] == [
        b"event: response.created",
        b"event: response.in_progress",
    ]
    assert assembler.start() == b""


def test_first_chunk_starts_the_response_by_itself() -> None:
    _, stream = running(text("Hi"))
    assert stream.startswith(b"event: response.created\n")
    assert b'"delta":"Hi"' in stream


def test_every_delta_leaves_at_once() -> None:
    reader = AnswerReader()
    assembler = Assembler(plain_context())
    for piece in ("Hello", " ", "Hello", "there"):
        assert json.dumps(piece).encode() in assembler.feed(reader.feed(text(piece)))


def test_nothing_is_written_after_the_end() -> None:
    assembler, stream = running(text("Hi"), chunk(finish="stop"), DONE)
    assert stream.endswith(DONE)
    assert assembler.finished
    late = AnswerReader().feed(text("late"))
    assert (assembler.feed(late), assembler.end(), assembler.fail(CUT)) == (b"", b"", b"")


def test_terminal_event_waits_for_late_usage() -> None:
    assembler, _ = running(text("Hi"), chunk(finish="stop"))
    assert not assembler.finished
    last = assembler.feed(AnswerReader().feed(usage(3, 4)))
    assert assembler.finished
    assert last.endswith(DONE)
    assert assembler.response()["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


def test_text_after_a_finish_reason_is_not_lost() -> None:
    counts: JsonObject = {"prompt_tokens": 1, "completion_tokens": 1}
    made = answer(
        chunk({"content": "a"}, "stop", usage=counts),
        chunk({"content": "b"}, "stop", usage=counts),
        DONE,
    )
    assert made.texts == ["ab"]


def test_length_is_not_forgotten_when_another_finish_reason_follows() -> None:
    assert answer(text("a", "length"), chunk(finish="stop"), DONE).status == "incomplete"


def test_missing_usage_is_estimated() -> None:
    made = answer(thought("x" * 8), text("y" * 9), chunk(finish="stop"), estimated_input_tokens=100)
    assert made.assembler.usage_is_estimated
    assert made.response["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 105,
    }


def test_counted_usage_is_not_called_an_estimate() -> None:
    assert not answer(text("a", "stop"), usage()).assembler.usage_is_estimated


def test_failed_response_carries_usage_numbers() -> None:
    made = answer(text("Hello", None), estimated_input_tokens=3)
    assert made.status == "failed"
    assert made.response["usage"]["total_tokens"] == 5


def test_answer_with_a_finish_reason_is_complete_though_the_connection_breaks() -> None:
    assembler, stream = running(text("Hi", "stop"))
    events = events_of(stream + assembler.end(CUT))
    check_events(events)
    assert events[-1]["type"] == "response.completed"


def test_broken_connection_is_named_in_the_error() -> None:
    assembler, _ = running(text("Hi"))
    assembler.end(CUT)
    assert assembler.error == CUT
    assert assembler.response()["error"] == {"code": "server_error", "message": CUT.message}


def test_failure_before_any_output_is_a_whole_response() -> None:
    assembler = Assembler(plain_context())
    events = events_of(assembler.fail(Failure("No.", status=403)))
    check_events(events)
    assert [it["type"].removeprefix("response.") for it in events] == [
        "created",
        "in_progress",
        "failed",
    ]


def test_end_of_an_empty_stream_fails() -> None:
    assert answer(b"").status == "failed"


def test_end_marker_alone_is_no_answer() -> None:
    assert answer(DONE).status == "failed"


def test_answer_without_words_is_complete() -> None:
    made = answer(chunk({"role": "assistant"}), chunk(finish="stop"), DONE)
    assert (made.status, made.output) == ("completed", [])


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("function_call", "completed", None),
        ("because", "completed", None),
        (None, "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_finish_reason_decides_the_terminal_state(
    finish: str | None, status: str, reason: str | None
) -> None:
    made = answer(text("a", finish), DONE)
    assert made.status == status
    assert (made.response["incomplete_details"] or {"reason": None}) == {"reason": reason}
    assert [item["status"] for item in made.output] == [status]


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_finish_reason_of_an_error_fails_and_keeps_the_text(reason: str) -> None:
    made = answer(text("a", reason), DONE)
    assert (made.status, made.texts) == ("failed", ["a"])


def test_half_call_of_a_failed_response_is_never_done() -> None:
    made = answer(call('{"a', index=0, id="call_a", name="f"))
    assert made.status == "failed"
    assert made.of_type("response.output_item.done") == []
    assert made.output[0]["status"] == "incomplete"


def test_only_the_last_open_item_is_incomplete_at_the_limit() -> None:
    made = answer(
        call('{"a":1}', index=0, id="call_a", name="f"),
        call("{}", index=1, id="call_b", name="g"),
        text("and", "length"),
        DONE,
    )
    assert [item["status"] for item in made.output] == ["completed", "completed", "incomplete"]


def test_half_call_before_the_last_item_is_incomplete_too() -> None:
    made = answer(
        call('{"a', index=0, id="call_a", name="f"),
        call("{", index=1, id="call_b", name="g"),
        chunk(finish="length"),
        DONE,
    )
    assert [item["status"] for item in made.output] == ["incomplete", "incomplete"]


def test_arguments_that_the_model_botched_stay_verbatim() -> None:
    made = answer(call('{"a": 1', index=0, id="call_a", name="f"), chunk(finish="tool_calls"), DONE)
    assert (made.status, made.calls) == ("completed", [("call_a", "f", '{"a": 1')])


def test_empty_arguments_of_a_finished_call_become_an_empty_object() -> None:
    made = answer(call("", index=0, id="call_a", name="f"), chunk(finish="stop"), DONE)
    assert made.calls == [("call_a", "f", "{}")]


def test_empty_arguments_of_a_cut_call_stay_empty() -> None:
    made = answer(call("", index=0, id="call_a", name="f"), chunk(finish="length"), DONE)
    assert made.calls == [("call_a", "f", "")]


def test_white_space_before_the_arguments_is_kept() -> None:
    made = answer(
        call(" ", index=0, id="call_a", name="f"),
        call('{"a":1}', index=0),
        chunk(finish="tool_calls"),
        DONE,
    )
    assert made.calls == [("call_a", "f", ' {"a":1}')]


def test_call_opens_when_its_name_is_known() -> None:
    _, before = running(call('{"a":', index=0, id="call_a"))
    assert b"output_item.added" not in before
    _, after = running(call('{"a":', index=0, id="call_a"), call("1", index=0, name="f"))
    assert b'"delta":"{\\"a\\":1"' in after


def test_call_without_a_name_fails_the_response_and_runs_nothing() -> None:
    made = answer(
        call("{}", index=0, id="call_a", name="f"),
        call('{"a":1}', index=1, id="call_b"),
        chunk(finish="tool_calls"),
        DONE,
    )
    assert made.status == "failed"
    assert made.of_type("response.output_item.done") == []


def test_nameless_call_that_the_limit_cut_is_incomplete() -> None:
    made = answer(call(None, index=0, id="call_a"), chunk(finish="length"), DONE)
    assert (made.status, made.output) == ("incomplete", [])


def test_fragment_that_says_nothing_is_no_call() -> None:
    made = answer(text("a"), chunk({"tool_calls": [fragment("", index=0)]}), text("b", "stop"))
    assert (made.status, made.texts) == ("completed", ["ab"])


def test_call_outside_the_allowed_tools_is_suppressed() -> None:
    tools = ToolTable()
    tools.permit_only(["f"])
    made = answer(
        call("{}", index=0, id="call_a", name="f"),
        call("{}", index=1, id="call_b", name="g"),
        chunk(finish="tool_calls"),
        DONE,
        tools=tools,
    )
    assert made.calls == [("call_a", "f", "{}")]


BUILT_IN = translated(
    {"input": "x", "tools": [{"type": "function", "name": "f"}, {"type": "shell"}]}
).tools
LIST = '{"commands":["ls"]}'


def test_call_of_a_built_in_tool_opens_when_its_arguments_are_whole() -> None:
    made = answer(
        call('{"commands":', index=0, id="a", name="shell"),
        call(LIST, index=1, id="b", name="shell"),
        call('{"a":1}', index=2, id="c", name="f"),
        call('["pwd"]}', index=0),
        chunk(finish="tool_calls"),
        DONE,
        tools=BUILT_IN,
    )
    assert [item["call_id"] for item in made.output] == ["c", "a", "b"]


def test_text_around_a_call_of_a_built_in_tool_is_two_messages() -> None:
    made = answer(
        text("before"),
        call('{"commands":', index=0, id="a", name="shell"),
        text("after"),
        call("[]}", index=0),
        chunk(finish="tool_calls"),
        DONE,
        tools=BUILT_IN,
    )
    assert made.texts == ["before", "after"]
    assert made.output[2]["action"] == {"commands": []}


def test_half_call_of_a_built_in_tool_is_not_shown_and_spoils_no_other() -> None:
    made = answer(
        call('{"a":1}', index=0, id="a", name="f"),
        call(LIST, index=1, id="b", name="shell"),
        call('{"commands":["r', index=2, id="c", name="shell"),
        chunk(finish="length"),
        DONE,
        tools=BUILT_IN,
    )
    assert made.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [(item["call_id"], item["status"]) for item in made.output] == [
        ("a", "completed"),
        ("b", "completed"),
    ]


def test_call_of_a_built_in_tool_without_arguments_is_not_lost() -> None:
    made = answer(
        call(index=0, id="a", name="shell"), chunk(finish="tool_calls"), DONE, tools=BUILT_IN
    )
    assert [item["action"] for item in made.output] == [{"commands": []}]


def test_thought_is_sealed_when_it_is_done() -> None:
    made = answer(thought("secret"), text("a", "stop"), DONE, seal=lambda it: f"sealed {len(it)}")
    assert made.output[0]["encrypted_content"] == "sealed 6"
    assert "encrypted_content" not in made.of_type("response.output_item.added")[0]["item"]


def test_thought_has_no_encrypted_content_unless_asked_for() -> None:
    assert "encrypted_content" not in answer(thought("a"), text("b", "stop")).output[0]


def test_other_choices_are_not_mixed_in() -> None:
    other = event({"choices": [{"index": 1, "delta": {"content": "other"}}]})
    assert answer(text("a"), other, text("b", "stop"), DONE).texts == ["ab"]


def test_service_tier_is_the_upstreams_own() -> None:
    echo = ResponseEcho(model="m", service_tier="flex")
    made = answer(chunk({"content": "a"}, "stop", service_tier="priority"), DONE, echo=echo)
    assert made.events[0]["response"]["service_tier"] == "flex"
    assert made.response["service_tier"] == "priority"


def test_snapshots_echo_the_request() -> None:
    tools: list[object] = [{"type": "function", "name": "f", "parameters": {}}]
    echo = ResponseEcho(model="m", tools=tools, instructions="Be brief \ud83d.")  # type: ignore[arg-type]
    made = answer(text("a", "stop"), DONE, echo=echo)
    for snapshot in (made.events[0]["response"], made.response):
        assert (snapshot["tools"], snapshot["instructions"]) == (tools, "Be brief \ud83d.")


def test_whole_text_repeated_in_the_last_chunk_is_not_doubled() -> None:
    words = "Sixty-four characters or more make a text that nobody repeats by chance. "
    made = answer(text(words[:20]), text(words[20:]), text(words, "stop"), DONE)
    assert made.texts == [words]


def test_held_back_text_comes_before_what_follows_it() -> None:
    made = answer(text("1"), text("10"), thought("hm"), text("!", "stop"), DONE)
    assert made.texts == ["110", "!"]


def test_fields_of_real_answers_survive_characters_that_json_escapes() -> None:
    content = '"\\\n\t\x00\x7f\u2028 é 世 🌍'
    made = answer(text(content, "stop"), DONE)
    assert made.texts == [content]


def test_text_that_looked_like_a_running_total_comes_before_what_follows_it() -> None:
    refused = answer(text("1"), text("10"), chunk({"refusal": "No."}), chunk(finish="stop"))
    assert [part.get("text", part.get("refusal")) for part in refused.output[0]["content"]] == [
        "110",
        "No.",
    ]
    scores: JsonObject = {"content": [{"token": "!", "logprob": -1.0}]}
    last = event({"choices": [{"index": 0, "delta": {"content": "!"}, "logprobs": scores}]})
    assert answer(text("1"), text("10"), last, chunk(finish="stop")).texts == ["110!"]


def test_the_tokens_of_a_character_in_pieces_are_all_scored() -> None:
    def scored(content: str, *tokens: str, finish: str | None = None) -> bytes:
        scores: JsonObject = {"content": [{"token": it, "logprob": -1.0} for it in tokens]}
        choice: JsonObject = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
        return event({"choices": [{**choice, "logprobs": scores}]})

    made = answer(
        scored("Hi", "Hi"),
        scored("", "\\xf0\\x9f"),
        scored("\U0001f600", "\\x98\\x80"),
        scored("", "<|im_end|>", finish="stop"),
    )
    (part,) = made.output[0]["content"]
    assert part["text"] == "Hi\U0001f600"
    assert [it["token"] for it in part["logprobs"]] == ["Hi", "\\xf0\\x9f", "\\x98\\x80"]
    deltas = made.of_type("response.output_text.delta")
    assert [len(it["logprobs"]) for it in deltas] == [1, 2]


def test_a_rule_in_the_last_chunk_is_no_replay_of_the_one_before() -> None:
    rule = "=" * 64
    assert answer(text(rule), text(rule, "stop")).texts == [rule * 2]


def test_an_error_in_the_place_of_the_answer_takes_the_words_before_it_along() -> None:
    failed = answer(
        text("[Throttling] Please"), text(" wait"), text(" a while."), chunk({}, "error_finish")
    )
    assert failed.response["error"] == {
        "code": "rate_limit_exceeded",
        "message": "[Throttling] Please wait a while.",
    }


def test_an_error_in_the_place_of_the_answer_may_be_the_second_choice_of_a_chunk() -> None:
    other: JsonObject = {"index": 1, "delta": {"content": "not asked for"}}
    error: JsonObject = {
        "index": 0,
        "delta": {"content": "Throttled"},
        "finish_reason": "error_finish",
    }
    failed = answer(event({"choices": [other, error]}))
    assert failed.response["error"] == {"code": "rate_limit_exceeded", "message": "Throttled"}
    assert failed.output == []
