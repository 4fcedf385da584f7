from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.past_calls import is_of_the_server
from qwen_mitm.wire.responses import parse_request
from tests.translate.sending import chat_call, messages, sent, tool, user

SHELL_OUTPUT = {
    "type": "shell_call_output",
    "call_id": "c1",
    "output": [
        {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
        {"stdout": "", "stderr": "b", "outcome": {"type": "timeout"}},
    ],
}


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        (
            {"type": "custom_tool_call", "name": "run", "input": 'a"\n\U0001f600'},
            "run",
            '{"input":"a\\"\\n\U0001f600"}',
        ),
        (
            {"type": "custom_tool_call", "name": "run", "namespace": "n", "input": ""},
            "n__run",
            '{"input":""}',
        ),
        (
            {
                "type": "local_shell_call",
                "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None},
            },
            "local_shell",
            '{"command":["ls"]}',
        ),
        (
            {"type": "shell_call", "action": {"commands": ["ls"], "timeout_ms": 5}},
            "shell",
            '{"commands":["ls"],"timeout_ms":5}',
        ),
        (
            {
                "type": "apply_patch_call",
                "operation": {"type": "delete_file", "path": "a"},
                "status": "completed",
            },
            "apply_patch",
            '{"type":"delete_file","path":"a"}',
        ),
        (
            {"type": "tool_search_call", "execution": "client", "arguments": {"query": "x"}},
            "tool_search",
            '{"query":"x"}',
        ),
        ({"type": "tool_search_call", "arguments": "{bad"}, "tool_search", "{bad"),
        ({"type": "tool_search_call"}, "tool_search", "{}"),
    ],
)
def test_a_past_call_has_the_arguments_that_its_definition_asks_for(
    call: dict[str, Any], name: str, arguments: str
) -> None:
    output = {"type": "function_call_output", "call_id": "c1", "output": "ok"}

    assert messages(user("go"), {**call, "call_id": "c1"}, output)[1:] == [
        {"role": "assistant", "content": "", "tool_calls": [chat_call("c1", name, arguments)]},
        tool("c1"),
    ]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"type": "custom_tool_call_output", "output": "done"}, "done"),
        ({"type": "local_shell_call_output", "output": '{"a": 1}'}, '{"a": 1}'),
        (
            SHELL_OUTPUT,
            '[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}},'
            '{"stdout":"","stderr":"b","outcome":{"type":"timeout"}}]',
        ),
        ({"type": "shell_call_output", "output": "as text"}, "as text"),
        ({"type": "apply_patch_call_output", "status": "completed"}, "completed"),
        (
            {"type": "apply_patch_call_output", "status": "failed", "output": "no file"},
            "failed: no file",
        ),
        ({"type": "tool_search_output", "tools": []}, "No tools found."),
    ],
)
def test_an_output_of_any_kind_answers_its_call(output: dict[str, Any], text: str) -> None:
    call = {"type": "shell_call", "call_id": "c1", "action": {"commands": []}}

    assert messages(user("go"), call, {**output, "call_id": "c1"})[2] == tool("c1", text)


def test_a_local_shell_call_may_be_known_by_its_id() -> None:
    call = {"type": "local_shell_call", "id": "c1", "action": {"type": "exec", "command": ["ls"]}}
    output = {"type": "local_shell_call_output", "id": "c1", "output": "ok"}

    assert messages(user("go"), call, output)[2] == tool("c1")
    with pytest.raises(InvalidRequest) as refused:
        messages(user("go"), {**call, "id": None})
    assert refused.value.param == "input[1].call_id"


def test_tools_that_were_found_are_named_as_the_model_can_call_them() -> None:
    found = [
        {"type": "function", "name": "send", "defer_loading": True},
        {"type": "namespace", "name": "mail", "tools": [{"type": "custom", "name": "draft"}]},
        {"type": "web_search"},
    ]
    call = {"type": "tool_search_call", "call_id": "c1", "arguments": {"query": "mail"}}
    output = {"type": "tool_search_output", "call_id": "c1", "tools": found}
    body = sent({"input": [user("go"), call, output, user("now")]})

    assert body["messages"][2] == tool("c1", "Tools found: send, mail__draft")
    assert [it["function"]["name"] for it in body["tools"]] == ["send", "mail__draft"]


@pytest.mark.parametrize(
    ("fields", "of_the_server"),
    [
        ({"call_id": None}, True),
        ({"call_id": "c", "execution": "server"}, True),
        ({"call_id": "c", "execution": "client"}, False),
        ({"call_id": "c"}, False),
    ],
)
def test_a_search_without_a_call_id_was_openais(fields: Any, of_the_server: bool) -> None:
    item = {"type": "tool_search_call", "arguments": {}, **fields}
    request = parse_request(to_json({"input": [item]}))

    assert isinstance(request.input, tuple)
    assert is_of_the_server(request.input[0]) is of_the_server
