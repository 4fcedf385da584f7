from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.input_items import (
    AdditionalTools,
    AgentMessage,
    ApplyPatchCall,
    ApplyPatchCallOutput,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    HostedReceipt,
    ItemReference,
    LocalShellCall,
    LocalShellCallOutput,
    Message,
    Reasoning,
    ShellCall,
    ShellCallOutput,
    ToolSearchCall,
    ToolSearchOutput,
    UnknownItem,
)
from qwen_mitm.wire.responses import parse_request


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
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}, CustomToolCall),
        ({"type": "custom_tool_call_output", "call_id": "c", "output": []}, FunctionCallOutput),
        ({"type": "local_shell_call", "id": "c", "action": {"type": "exec"}}, LocalShellCall),
        ({"type": "local_shell_call_output", "id": "c", "output": "{}"}, LocalShellCallOutput),
        ({"type": "shell_call", "call_id": "c", "action": {"commands": []}}, ShellCall),
        ({"type": "shell_call_output", "call_id": "c", "output": []}, ShellCallOutput),
        ({"type": "apply_patch_call", "call_id": "c", "operation": {}}, ApplyPatchCall),
        (
            {"type": "apply_patch_call_output", "call_id": "c", "status": "failed"},
            ApplyPatchCallOutput,
        ),
        ({"type": "tool_search_call", "call_id": None, "arguments": {}}, ToolSearchCall),
        ({"type": "tool_search_output", "call_id": "c", "tools": []}, ToolSearchOutput),
        ({"type": "additional_tools", "role": "developer", "tools": []}, AdditionalTools),
        ({"type": "configuration_update", "reasoning": {"effort": "low"}}, ConfigurationUpdate),
        ({"type": "agent_message", "author": "/root", "content": []}, AgentMessage),
        ({"type": "reasoning", "summary": []}, Reasoning),
        ({"type": "item_reference", "id": "msg_1"}, ItemReference),
        ({"type": "compaction", "encrypted_content": "x"}, Compaction),
        ({"type": "compaction_summary", "encrypted_content": "x"}, Compaction),
        ({"type": "compaction_trigger"}, CompactionTrigger),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, HostedReceipt),
        ({"type": "something_of_tomorrow"}, UnknownItem),
    ],
)
def test_every_item_type_has_its_model(item: dict[str, Any], model: type) -> None:
    (parsed,) = items_of(item)

    assert type(parsed) is model


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input[0].input"),
        ({"type": "custom_tool_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "", "output": "x"}, "input[0].call_id"),
        ({"type": "apply_patch_call", "call_id": "c", "operation": 1}, "input[0].operation"),
        ({"type": "tool_search_output", "call_id": "c"}, "input[0].tools"),
        ({"type": "additional_tools", "tools": [{"type": "custom"}]}, "input[0].tools[0].name"),
        ({"type": "agent_message", "content": "x"}, "input[0].author"),
        ({"type": "shell_call_output", "call_id": "c", "output": [1]}, "input[0].output[0]"),
    ],
)
def test_an_item_that_is_wrong_is_refused_with_its_field(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        items_of(item)

    assert refused.value.param == param
