import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.content import TextPart
from qwen_mitm.wire.input_items import Message
from qwen_mitm.wire.responses import parse_request


def test_unknown_keys_are_accepted_everywhere() -> None:
    request = parse_request(
        to_json(
            {
                "client_metadata": {"x": 1},
                "moderation": {},
                "input": [
                    {
                        "role": "assistant",
                        "phase": "final",
                        "content": [
                            {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
                        ],
                    }
                ],
            }
        )
    )

    assert isinstance(request.input, tuple)
    assert isinstance(request.input[0], Message)
    assert request.input[0].content == (TextPart(type="output_text", text="a"),)


def test_unknown_fields_that_ask_for_something_are_named() -> None:
    request = parse_request(
        b'{"model": "m", "context_management": [{"type": "compaction"}], "seed": 0, "echo": false,'
        b' "model_copy": 1, "moderation": {}, "image": null, "stop": [], "suffix": "",'
        b' "client_metadata": {"x": 1}, "prompt_cache_retention": "24h",'
        b' "prompt_cache_options": {"mode": "explicit"}, "text": {"verbosity": "low", "x": 1},'
        b' "reasoning": {"effort": "low", "mode": "pro", "context": null}}'
    )

    assert request.unknown_fields == [
        *("context_management", "seed", "echo", "model_copy"),
        *("reasoning.mode", "text.x"),
    ]


def test_null_means_absent() -> None:
    request = parse_request(
        b'{"model": "m", "input": "x", "max_output_tokens": null, "tools": null, "text": null,'
        b' "reasoning": null, "tool_choice": null, "temperature": null, "metadata": null}'
    )

    assert request.tools is None
    assert request.temperature is None


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    request = parse_request(rb'{"input": "\ud83d \ud83d\ude00 \\ud83d \udc00"}')

    assert request.input == "\ufffd \U0001f600 \\ud83d \ufffd"


def test_an_integer_in_a_string_is_no_integer() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(b'{"max_output_tokens": "5"}')

    assert refused.value.param == "max_output_tokens"
