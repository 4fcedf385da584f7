import json

import pytest

from qwen_mitm.stored_response import chain, encoded, item_id, with_id
from qwen_mitm.wire.response_object import JsonObject
from tests.stored_turns import call_output, response, says, turn, user


def keys(*items: JsonObject) -> list[bytes]:
    return list(chain(encoded(item) for item in items))


def test_a_key_tells_an_item_and_all_before_it() -> None:
    assert keys(user("a"), user("b"))[:1] == keys(user("a"))
    assert keys(user("a"), user("b"))[1] != keys(user("b"))[0]
    assert keys(user("a"), user("b"), user("c"))[2] != keys(user("b"), user("a"), user("c"))[2]


def test_an_item_keeps_its_own_id() -> None:
    assert item_id(says("hi", "msg_1"), b"k") == "msg_1"


@pytest.mark.parametrize(
    ("item", "prefix"),
    [
        (user("hi"), "msg_"),
        ({"role": "user", "content": "hi"}, "msg_"),
        (call_output("call_1", "x"), "fco_"),
        ({"type": "shell_call_output", "call_id": "c", "id": None}, "item_"),
    ],
)
def test_an_item_without_an_id_gets_one_that_stays(item: JsonObject, prefix: str) -> None:
    [key] = keys(item)
    given = item_id(item, key)
    assert given.startswith(prefix)
    assert item_id(item, key) == given


def test_a_listed_message_has_parts_and_a_type() -> None:
    listed = with_id(encoded({"role": "assistant", "content": "hi"}), b"k")
    part: JsonObject = {"type": "output_text", "text": "hi", "annotations": []}
    assert listed == {
        "type": "message",
        "role": "assistant",
        "content": [part],
        "id": f"msg_{b'k'.hex()}",
    }


def test_halves_of_characters_and_numbers_without_a_value_become_json() -> None:
    text = encoded({"a\udc00": ["\ud83d", 1.5, None, float("nan")]})
    half = "\N{REPLACEMENT CHARACTER}"
    assert json.loads(text) == {f"a{half}": [half, 1.5, None, None]}


def test_the_output_is_the_responses_own_items() -> None:
    stored = turn(response("resp_1", says("hello", "msg_1")), user("hi"))
    assert [json.loads(item) for item in stored.output] == [says("hello", "msg_1")]
    assert stored.id == "resp_1"
