import json

import pytest
from pydantic import JsonValue, ValidationError

from qwen_mitm.wire.chat_chunk import ChatChunk, Delta, Logprob, ToolCallDelta, Usage


def delta(**fields: JsonValue) -> Delta:
    return (
        ChatChunk.model_validate_json(json.dumps({"choices": [{"delta": fields}]})).choices[0].delta
    )


def usage(**fields: JsonValue) -> Usage | None:
    return ChatChunk.model_validate_json(json.dumps({"choices": [], "usage": fields})).usage


def counts(**fields: JsonValue) -> tuple[int, int, int]:
    result = usage(**fields)
    assert result is not None
    return result.prompt_tokens, result.completion_tokens, result.total_tokens


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "hello"),
        ("", ""),
        (None, None),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "output_text", "text": "b"}, "c"], "abc"),
    ],
)
def test_content_is_a_text_or_a_list_of_text_parts(content: JsonValue, text: str | None) -> None:
    assert delta(content=content).content == text


@pytest.mark.parametrize("content", [5, {"text": "a"}, [{"type": "image_url"}], [None]])
def test_content_that_would_be_lost_does_not_validate(content: JsonValue) -> None:
    with pytest.raises(ValidationError):
        delta(content=content)


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"reasoning_content": "hm", "reasoning": "hm"}, "hm"),
        ({"reasoning_content": "", "reasoning": "hm"}, "hm"),
        ({"reasoning_content": None, "reasoning": "hm"}, "hm"),
        ({"reasoning_content": ""}, None),
        ({}, None),
    ],
)
def test_reasoning_is_read_from_either_field_and_once(
    fields: dict[str, JsonValue], reasoning: str | None
) -> None:
    assert delta(**fields).reasoning == reasoning


def test_call_fragment_has_its_index_id_name_and_arguments() -> None:
    call: JsonValue = {
        "index": 2,
        "id": "call_a",
        "type": "function",
        "function": {"name": "look", "arguments": '{"a"'},
    }
    assert delta(tool_calls=[call]).tool_calls == (
        ToolCallDelta(index=2, id="call_a", name="look", arguments='{"a"'),
    )


@pytest.mark.parametrize(
    "call",
    [
        {"index": None, "id": "", "type": "", "function": {"name": "", "arguments": None}},
        {"id": None, "type": None, "function": {"name": None}},
        {"index": "first", "id": 7, "function": None},
        {"index": -1},
        {},
    ],
)
def test_empty_and_wrongly_typed_identity_of_a_call_reads_as_absent(call: JsonValue) -> None:
    assert delta(tool_calls=[call]).tool_calls == (ToolCallDelta(),)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [("", ""), ('{"a":1}', '{"a":1}'), ({"a": "é"}, '{"a":"é"}'), ({}, "{}"), ([1, 2], "[1,2]")],
)
def test_arguments_that_are_no_text_become_json_text(arguments: JsonValue, text: str) -> None:
    call: JsonValue = {"function": {"arguments": arguments}}
    assert delta(tool_calls=[call]).tool_calls[0].arguments == text


def test_null_instead_of_a_list_of_calls_is_no_calls() -> None:
    assert delta(tool_calls=None, function_call=None).tool_calls == ()


@pytest.mark.parametrize("calls", ["call", {"index": 0}, [None], 5])
def test_calls_that_would_be_lost_do_not_validate(calls: JsonValue) -> None:
    with pytest.raises(ValidationError):
        delta(tool_calls=calls)


def test_legacy_function_call_is_call_zero() -> None:
    call = delta(function_call={"name": "look", "arguments": "{"})
    assert call.tool_calls == (ToolCallDelta(index=0, name="look", arguments="{"),)


def test_whole_message_reads_as_a_delta_and_its_calls_are_numbered_by_position() -> None:
    choice = ChatChunk.model_validate_json(
        b"""{"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "I look.", "reasoning": "hm", "refusal": null,
            "tool_calls": [
                {"id": "a", "function": {"name": "look", "arguments": "{}"}},
                {"id": "b", "index": 0, "function": {"name": "see", "arguments": {"x": 1}}}
            ]}}]}"""
    ).choice
    assert choice is not None
    assert (choice.delta.content, choice.delta.reasoning) == ("I look.", "hm")
    assert choice.delta.tool_calls == (
        ToolCallDelta(index=0, id="a", name="look", arguments="{}"),
        ToolCallDelta(index=1, id="b", name="see", arguments='{"x":1}'),
    )


def test_message_counts_where_the_delta_is_null() -> None:
    chunk = ChatChunk.model_validate_json(
        b'{"choices": [{"delta": null, "message": {"content": "a"}}]}'
    )
    assert chunk.choices[0].delta.content == "a"


@pytest.mark.parametrize(
    ("choices", "content"),
    [
        ([{"index": 0, "delta": {"content": "a"}}], "a"),
        ([{"delta": {"content": "a"}}], "a"),
        ([{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}], "a"),
    ],
)
def test_the_choice_is_the_one_with_index_zero(choices: JsonValue, content: str) -> None:
    choice = ChatChunk.model_validate({"choices": choices}).choice
    assert choice is not None
    assert choice.delta.content == content


@pytest.mark.parametrize("choices", [[], None, [{"index": 1, "delta": {"content": "b"}}]])
def test_without_index_zero_there_is_no_choice(choices: JsonValue) -> None:
    assert ChatChunk.model_validate({"choices": choices}).choice is None


def test_choice_without_delta_adds_nothing() -> None:
    choice = ChatChunk.model_validate_json(b'{"choices": [{"finish_reason": "stop"}]}').choice
    assert choice is not None
    assert choice.delta == Delta()
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("word", ["", None, 5])
def test_empty_finish_reason_is_none(word: JsonValue) -> None:
    chunk = ChatChunk.model_validate({"choices": [{"delta": {}, "finish_reason": word}]})
    assert chunk.choices[0].finish_reason is None


def test_fields_that_nothing_depends_on_may_have_any_type() -> None:
    chunk = ChatChunk.model_validate_json(
        b"""{"id": 5, "model": ["x"], "service_tier": {}, "object": 7, "created": "now",
        "usage": "none", "system_fingerprint": null, "choices": [
        {"index": "0", "delta": {"role": 5, "content": "a"}, "logprobs": "none"}]}"""
    )
    assert chunk.choice is not None
    assert chunk.choice.delta.content == "a"
    assert (chunk.model, chunk.service_tier, chunk.usage) == (None, None, None)


def test_logprobs_are_typed() -> None:
    chunk = ChatChunk.model_validate_json(
        b"""{"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
        {"token": "b", "logprob": -1, "bytes": null}]}], "refusal": null}}]}"""
    )
    logprobs = chunk.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    (logprob,) = logprobs.content
    assert isinstance(logprob, Logprob)
    assert (logprob.token, logprob.logprob, logprob.bytes) == ("a", -0.5, (97,))
    assert [(top.token, top.logprob) for top in logprob.top_logprobs] == [("b", -1.0)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, (5, 2, 7)),
        ({"prompt_tokens": 5, "completion_tokens": 2}, (5, 2, 7)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 99}, (5, 2, 7)),
        ({"input_tokens": 5, "output_tokens": 2}, (5, 2, 7)),
        ({"prompt_tokens": 5, "completion_tokens": None, "total_tokens": 7}, (5, 2, 7)),
        ({"completion_tokens": 2, "total_tokens": 7}, (5, 2, 7)),
        ({"total_tokens": 7}, (7, 0, 7)),
        ({"prompt_tokens": "5", "completion_tokens": 2.0}, (5, 2, 7)),
        ({"prompt_tokens": -5, "completion_tokens": 2, "total_tokens": "many"}, (0, 2, 2)),
        ({"prompt_tokens": 10**30, "completion_tokens": 2}, (0, 2, 2)),
    ],
)
def test_usage_has_one_set_of_numbers(
    fields: dict[str, JsonValue], expected: tuple[int, int, int]
) -> None:
    assert counts(**fields) == expected


@pytest.mark.parametrize(
    "fields", [{}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {"cost": 1}]
)
def test_usage_that_counts_nothing_is_no_usage(fields: dict[str, JsonValue]) -> None:
    assert usage(**fields) is None


@pytest.mark.parametrize(
    ("fields", "cached", "reasoning"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 3, "text_tokens": 5}}, 3, 0),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0, 0),
        ({"cached_tokens": 3}, 3, 0),
        ({"completion_tokens_details": {"reasoning_tokens": 4, "text_tokens": 1}}, 0, 4),
        (
            {
                "input_tokens_details": {"cached_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 4},
            },
            3,
            4,
        ),
    ],
)
def test_details_of_usage_are_numbers(
    fields: dict[str, JsonValue], cached: int, reasoning: int
) -> None:
    result = usage(prompt_tokens=5, completion_tokens=5, **fields)
    assert result is not None
    assert (result.cached_tokens, result.reasoning_tokens) == (cached, reasoning)
