import json
from typing import Any

import pytest

from qwen_mitm.inspection.blanking import (
    BlankArguments,
    blank_document,
    blank_stream,
    blank_text,
)
from tests.inspection.turns import UPSTREAM
from tests.translate.answers import call, event


def test_letters_and_digits_are_blanked_and_the_shape_stays() -> None:
    assert blank_text("Hello, Wörld 5!\n你好") == "xxxxx, xxxxx x!\nxx"
    assert blank_text("data:image/png;base64,iVBO/+==") == "data:image/png;base64,xxxx/+=="


@pytest.mark.parametrize("step", [1, 3, 1_000])
def test_values_of_arguments_are_blanked_in_pieces_of_any_size(step: int) -> None:
    text = (
        '{"path": "src/a.py", "n": [1, "two"], "o": {"k": "v"}, "e": "a\\nb\\u00e9\\"c", "b": true}'
    )
    blanked = BlankArguments()
    pieces = [text[n : n + step] for n in range(0, len(text), step)]
    done = "".join(map(blanked.feed, pieces))
    assert json.loads(done) == {
        "path": "xxx/x.xx",
        "n": [1, "xxx"],
        "o": {"k": "x"},
        "e": 'x\nxé"x',
        "b": True,
    }


def test_arguments_that_are_a_text_are_blanked_as_one() -> None:
    assert BlankArguments().feed("*** Begin Patch") == "*** xxxxx xxxxx"


def test_names_and_types_of_a_request_stay_and_what_was_said_does_not() -> None:
    request: dict[str, Any] = {
        "model": "m",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "secret"}]},
            {"type": "function_call", "name": "read", "call_id": "c1", "arguments": '{"p":"q"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "secret"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "read",
                "description": "Reads.",
                "parameters": {"properties": {"text": {"type": "string"}}, "required": ["text"]},
            }
        ],
    }
    blank = blank_document(request)
    said = json.dumps(blank)
    assert "secret" not in said
    assert "Be brief" not in said
    assert blank == {
        "model": "m",
        "instructions": "xx xxxxx.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "xxxxxx"}]},
            {"type": "function_call", "name": "read", "call_id": "c1", "arguments": '{"p":"x"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "xxxxxx"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "read",
                "description": "xxxxx.",
                "parameters": {"properties": {"text": {"type": "string"}}, "required": ["text"]},
            }
        ],
    }


def test_an_answer_keeps_its_events_and_loses_its_words() -> None:
    stream = b"".join(UPSTREAM[:3])
    stream += call('{"city":"Pa', index=0, id="c9", name="get_weather") + call('ris"}', index=0)
    stream += b": the answer is Paris\n\ndata: {broken Paris\n\n" + UPSTREAM[-1]
    blank = blank_stream(stream).decode()
    assert blank.count("data: ") == stream.count(b"data: ") - 1
    assert "get_weather" in blank
    assert not {word for word in ("Paris", "look", "capital", "ris") if word in blank}
    assert '{\\"city\\":\\"xx' in blank
    assert blank.endswith("data: [DONE]\n\n")


def test_answers_of_responses_hosts_are_blanked_too() -> None:
    kind = "response.function_call_arguments.delta"
    pieces = [{"type": kind, "item_id": "fc_1", "delta": piece} for piece in ('{"a":"b', 'c"}')]
    blank = blank_stream(b"".join(event(dict(piece)) for piece in pieces)).decode()
    assert '{\\"a\\":\\"x' in blank
    assert 'x\\"}' in blank


def test_a_document_is_blanked() -> None:
    document = b'{"choices":[{"message":{"role":"assistant","content":"Paris"}}]}'
    assert json.loads(blank_stream(document))["choices"][0]["message"] == {
        "role": "assistant",
        "content": "xxxxx",
    }
