from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.responses import (
    Compaction,
    FunctionCall,
    FunctionCallOutput,
    HostedReceipt,
    ItemReference,
    Message,
    Reasoning,
    TextPart,
    UnknownItem,
    parse_request,
)


def items_of(*items: Any) -> tuple[Any, ...]:
    request = parse_request(to_json({"input": items}))
    assert isinstance(request.input, tuple)
    return request.input


def test_an_item_with_a_role_and_no_type_is_a_message() -> None:
    (message,) = items_of({"role": "user", "content": "hi"})

    assert isinstance(message, Message)
    assert (message.role, message.content) == ("user", "hi")


def test_a_null_type_counts_as_no_type() -> None:
    message, reference = items_of(
        {"type": None, "role": "user", "content": "hi"}, {"type": None, "id": "rs_1"}
    )

    assert isinstance(message, Message)
    assert isinstance(reference, ItemReference)


@pytest.mark.parametrize(
    ("item", "model"),
    [
        ({"type": "message", "role": "user", "content": []}, Message),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}, FunctionCall),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, FunctionCallOutput),
        ({"type": "reasoning", "summary": []}, Reasoning),
        ({"type": "item_reference", "id": "msg_1"}, ItemReference),
        ({"type": "compaction", "encrypted_content": "x"}, Compaction),
        ({"type": "compaction_trigger"}, Compaction),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, HostedReceipt),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}, UnknownItem),
        ({"type": "something_of_tomorrow"}, UnknownItem),
    ],
)
def test_every_item_type_has_its_model(item: dict[str, Any], model: type) -> None:
    (parsed,) = items_of(item)

    assert type(parsed) is model


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
