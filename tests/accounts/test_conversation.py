import json

import pytest

from qwen_mitm.accounts.conversation import conversation_key
from qwen_mitm.wire.responses import ResponsesRequest, parse_request

SYSTEM = {"role": "system", "content": "You are OpenCode."}
USER = {"role": "user", "content": [{"type": "input_text", "text": "List the files."}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "a b"}
ANSWER = {"role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}
MORE = {"role": "user", "content": "And the hidden ones?"}


def request(items: object, **fields: object) -> ResponsesRequest:
    return parse_request(json.dumps({"model": "qwen", "input": items, **fields}).encode())


def test_the_prompt_cache_key_comes_first() -> None:
    key = conversation_key(request("hi", prompt_cache_key="ses_1"), {"session_id": "other"})
    assert key == "ses_1"


@pytest.mark.parametrize(
    "name", ["session_id", "session-id", "conversation_id", "x-session-id", "x-session-affinity"]
)
def test_a_session_header_is_the_conversation(name: str) -> None:
    assert conversation_key(request("hi"), {name: " ses_1 "}) == "ses_1"


def test_a_title_request_shares_the_session_of_its_conversation() -> None:
    title = request([SYSTEM, USER])
    turn = request([SYSTEM, USER], prompt_cache_key="ses_1")
    headers = {"x-session-affinity": "ses_1", "x-session-id": "ses_1"}
    assert conversation_key(title, headers) == conversation_key(turn, headers)


def test_all_turns_of_a_conversation_have_one_key() -> None:
    turns = [
        [SYSTEM, USER],
        [SYSTEM, USER, CALL, OUTPUT],
        [SYSTEM, USER, CALL, OUTPUT, ANSWER, MORE],
    ]
    keys = {conversation_key(request(items), {}) for items in turns}
    assert len(keys) == 1
    assert None not in keys


def test_other_beginnings_are_other_conversations() -> None:
    beginnings = [
        request([SYSTEM, USER]),
        request([USER]),
        request([SYSTEM, MORE]),
        request([USER], instructions="Be short."),
        request("List the files, please."),
        request([USER, MORE]),
        request([{"role": "user", "content": [{"type": "input_image", "image_url": "x:1"}]}]),
        request([{"role": "user", "content": [{"type": "input_image", "image_url": "x:2"}]}]),
    ]
    assert len({conversation_key(each, {}) for each in beginnings}) == len(beginnings)


def test_a_text_and_a_message_of_it_are_the_same_beginning() -> None:
    text = "List the files."
    assert conversation_key(request(text), {}) == conversation_key(request([USER]), {})


@pytest.mark.parametrize("items", [[OUTPUT], [CALL, OUTPUT], [ANSWER, MORE]])
def test_a_request_that_begins_in_the_middle_belongs_to_no_conversation(items: object) -> None:
    assert conversation_key(request(items), {}) is None


def test_a_long_key_is_kept_short() -> None:
    one = conversation_key(request("hi", prompt_cache_key="k" * 100_000), {})
    other = conversation_key(request("hi", prompt_cache_key="k" * 100_001), {})
    assert one is not None
    assert len(one) <= 64
    assert one != other


def test_long_texts_that_begin_alike_are_told_apart_by_their_length() -> None:
    assert conversation_key(request("x" * 9000), {}) != conversation_key(request("x" * 9001), {})


def test_the_key_shows_nothing_of_the_text() -> None:
    key = conversation_key(request("my secret plan"), {})
    assert key is not None
    assert "secret" not in key
