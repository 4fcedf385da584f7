import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.responses import parse_request

FAULTS = [
    (b'{"input": 5}', "input", "expected a string or an array, but got an integer"),
    (b'{"input": {"role": "user"}}', "input", "expected a string or an array"),
    (b'{"input": [5]}', "input[0]", "expected an object, but got an integer"),
    (b'{"input": [{}]}', "input[0].type", "Missing required parameter: 'input[0].type'."),
    (b'{"input": [{"type": 7}]}', "input[0].type", "expected a string"),
    (b'{"input": [{"role": "x", "content": ""}]}', "input[0].role", "'x'. Supported values are"),
    (b'{"input": [{"role": "user"}]}', "input[0].content", "Missing required parameter"),
    (
        b'{"input": [{"role": "user", "content": null}]}',
        "input[0].content",
        "expected a string or an array, but got null",
    ),
    (
        b'{"input": [{"role":"user", "content": [{"type": "text", "text": ""}, {"type":"gif"}]}]}',
        "input[0].content[1].type",
        "'gif'. Supported values are: 'input_text'",
    ),
    (
        b'{"input": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}',
        "input[0].content[0].text",
        "expected a string, but got an integer",
    ),
    (
        b'{"input": [{"role": "user", "content": [{"text": "x"}]}]}',
        "input[0].content[0].type",
        "Missing required parameter",
    ),
    (
        b'{"input": [{"type": "function_call_output", "output": "x"}]}',
        "input[0].call_id",
        "Missing required parameter: 'input[0].call_id'.",
    ),
    (
        b'{"input": [{"type": "function_call_output", "call_id": "c", "output": {}}]}',
        "input[0].output",
        "expected a string or an array, but got an object",
    ),
    (b'{"tools": "x"}', "tools", "expected an array, but got a string"),
    (b'{"tools": [3]}', "tools[0]", "expected an object"),
    (b'{"tools": [{"name": "f"}]}', "tools[0].type", "Missing required parameter"),
    (
        b'{"tools": [{"type": "function", "function": {"name": "f"}}]}',
        "tools[0].name",
        "Missing required parameter: 'tools[0].name'.",
    ),
    (b'{"tools": [{"type": "function", "name": ""}]}', "tools[0].name", "must not be empty"),
    (
        b'{"tools": [{"type": "function", "name": "f", "parameters": []}]}',
        "tools[0].parameters",
        "expected an object, but got an array",
    ),
    (
        b'{"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]}',
        "tools[0].tools[0].name",
        "Missing required parameter",
    ),
    (b'{"tool_choice": "sometimes"}', "tool_choice", "'auto', 'none' or 'required'"),
    (b'{"tool_choice": {"type": "function"}}', "tool_choice.name", "Missing required parameter"),
    (b'{"tool_choice": {}}', "tool_choice.type", "Missing required parameter"),
    (b'{"temperature": 3}', "temperature", "at most 2"),
    (b'{"temperature": NaN}', "temperature", "finite number"),
    (b'{"max_output_tokens": 0}', "max_output_tokens", "at least 1"),
    (b'{"stream": "yes"}', "stream", "expected a boolean, but got a string"),
    (b'{"metadata": {"a": 1}}', "metadata.a", "expected a string"),
    (b'{"text": {"format": {"type": "xml"}}}', "text.format.type", "'json_schema'"),
    (
        b'{"text": {"format": {"type": "json_schema", "name": "n"}}}',
        "text.format.schema",
        "Missing required parameter",
    ),
    (b'{"reasoning": {"effort": "huge"}}', "reasoning.effort", "'none', 'minimal'"),
]


@pytest.mark.parametrize(("body", "param", "words"), FAULTS)
def test_a_fault_names_the_field_and_what_was_expected(body: bytes, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(body)

    assert refused.value.param == param
    assert words in refused.value.message
    assert "pydantic" not in refused.value.message
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"not json", b'{"input":' + b"[" * 500])
def test_a_body_that_is_no_json_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON") as refused:
        parse_request(body)

    assert refused.value.param is None


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"5", b"null"])
def test_a_body_that_is_no_object_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse_request(body)


def test_the_first_of_several_faults_is_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(b'{"input": [{"role": "user", "content": 1}, {"role": "x"}], "tools": 5}')

    assert refused.value.param == "input[0].content"


def test_a_long_value_is_not_repeated_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(b'{"input": [{"role": "user", "content": "", "role": "%s"}]}' % (b"x" * 999))

    assert refused.value.param == "input[0].role"
    assert "xxx" not in refused.value.message


def test_a_fault_beside_half_a_surrogate_pair_is_still_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(rb'{"instructions": "\ud83d", "tools": 5}')

    assert refused.value.param == "tools"
