import json

import pytest
from pydantic import JsonValue

from qwen_mitm.connection_state import ConnectionState
from qwen_mitm.errors import InvalidRequest
from qwen_mitm.state import NotFound
from qwen_mitm.stored_response import StoredResponse
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import ResponsesRequest, parse_request
from tests.stored_turns import (
    Nothing,
    call_output,
    calls,
    expanded,
    response,
    says,
    thinks,
    turn,
    user,
)


@pytest.fixture
def store() -> ConnectionState:
    return ConnectionState(Nothing())


def replayed(*items: JsonValue) -> ResponsesRequest:
    """The request of a client that sends the whole conversation."""
    return parse_request(json.dumps({"model": "qwen3-coder-plus", "input": [*items]}).encode())


def content(stored: StoredResponse) -> list[JsonValue]:
    return [json.loads(item) for item in stored.input]


def test_a_request_that_refers_to_nothing_stays_as_it_is() -> None:
    expansion = expanded(Nothing(), [user("hi")])
    assert expansion.request == replayed(user("hi"))
    assert expansion.inherited == ()


def test_the_previous_input_and_output_come_before_the_new_input(store: ConnectionState) -> None:
    store.save(turn(response("resp_1", thinks("hm", "rs_1"), says("hello", "msg_1")), user("hi")))
    expansion = expanded(store, [user("and now?")], previous="resp_1")
    assert expansion.request == replayed(
        user("hi"), thinks("hm", "rs_1"), says("hello", "msg_1"), user("and now?")
    )
    assert expansion.previous_response_id == "resp_1"


def test_a_text_continues_a_conversation(store: ConnectionState) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    expansion = expanded(store, "and now?", previous="resp_1")
    assert expansion.request.input == (
        *(replayed(user("hi"), says("hello", "msg_1")).input or ()),
        *(replayed(user("and now?")).input or ()),
    )


def test_a_conversation_continues_without_new_input(store: ConnectionState) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    assert expanded(store, None, previous="resp_1").request == replayed(user("hi"))


def test_an_output_alone_answers_the_call_of_the_previous_response(store: ConnectionState) -> None:
    store.save(turn(response("resp_1", calls("call_1", "fc_1")), user("look")))
    expansion = expanded(store, [call_output("call_1", "seen")], previous="resp_1")
    assert expansion.request == replayed(
        user("look"), calls("call_1", "fc_1"), call_output("call_1", "seen")
    )


def test_instructions_and_tools_are_not_inherited(store: ConnectionState) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    request = expanded(store, "more", previous="resp_1").request
    assert request.instructions is None
    assert request.tools is None


def test_what_is_stored_of_a_turn_is_all_that_the_model_read(store: ConnectionState) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    expansion = expanded(store, [{"role": "user", "content": "x", "own": 1}], previous="resp_1")
    assert content(expansion.stored(response("resp_2"))) == [
        user("hi"),
        says("hello", "msg_1"),
        {"role": "user", "content": "x", "own": 1},
    ]


def test_a_text_is_stored_as_a_message() -> None:
    part: JsonObject = {"type": "input_text", "text": "hi"}
    assert content(expanded(Nothing(), "hi").stored(response("resp_1"))) == [
        {"type": "message", "role": "user", "content": [part]}
    ]


def test_half_an_emoji_is_stored_as_the_replacement_character() -> None:
    stored = expanded(Nothing(), "cut \ud83d").stored(response("resp_1"))
    assert b"cut \xef\xbf\xbd" in stored.input[0]


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "rs_1"}, {"id": "rs_1"}])
def test_a_reference_becomes_the_stored_item(store: ConnectionState, reference: JsonObject) -> None:
    store.save(turn(response("resp_1", thinks("hm", "rs_1"), says("hello", "msg_1")), user("hi")))
    expansion = expanded(store, [user("hi"), reference, user("more")])
    assert expansion.request == replayed(user("hi"), thinks("hm", "rs_1"), user("more"))
    assert content(expansion.stored(response("resp_2"))) == [
        user("hi"),
        thinks("hm", "rs_1"),
        user("more"),
    ]


def test_a_reference_to_an_unknown_item_is_refused_by_name(store: ConnectionState) -> None:
    with pytest.raises(NotFound, match="'msg_9'") as refused:
        expanded(store, [user("hi"), {"type": "item_reference", "id": "msg_9"}])
    assert (refused.value.status, refused.value.param) == (404, "input[1].id")


def test_an_unknown_previous_response_is_refused(store: ConnectionState) -> None:
    with pytest.raises(InvalidRequest, match="'resp_9'") as refused:
        expanded(store, "hi", previous="resp_9")
    assert refused.value.status == 400
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


def test_a_stored_item_that_can_no_longer_be_read_is_as_good_as_unknown() -> None:
    class Damaged(Nothing):
        def context(self, response_id: str) -> list[bytes]:  # type: ignore[override]
            return [b'{"type":"message","role":7}']

    with pytest.raises(InvalidRequest) as refused:
        expanded(Damaged(), "hi", previous="resp_1")
    assert refused.value.code == "previous_response_not_found"


@pytest.mark.parametrize("previous", [None, "resp_1"])
def test_conversations_are_refused(store: ConnectionState, previous: str | None) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    with pytest.raises(InvalidRequest) as refused:
        expanded(store, "hi", previous=previous, conversation="conv_1")
    assert (refused.value.status, refused.value.param) == (400, "conversation")


def test_a_call_that_broke_off_is_not_inherited(store: ConnectionState) -> None:
    cut = calls("call_1", "fc_1", status="incomplete")
    store.save(turn(response("resp_1", says("so", "msg_1"), cut), user("look")))
    expansion = expanded(store, "go on", previous="resp_1")
    assert expansion.inherited == expanded(store, None, previous="resp_1").inherited
    assert [json.loads(item) for item in expansion.inherited] == [user("look"), says("so", "msg_1")]


def test_a_call_that_broke_off_is_inherited_when_it_is_answered(store: ConnectionState) -> None:
    cut = calls("call_1", "fc_1", status="incomplete")
    store.save(turn(response("resp_1", cut), user("look")))
    expansion = expanded(store, [call_output("call_1", "cut")], previous="resp_1")
    assert expansion.request == replayed(user("look"), cut, call_output("call_1", "cut"))


def test_a_request_to_compact_is_not_made_again_in_the_next_turn(store: ConnectionState) -> None:
    trigger: JsonObject = {"type": "compaction_trigger"}
    store.save(turn(response("resp_1", says("so", "msg_1")), user("hi"), trigger))
    expansion = expanded(store, "go on", previous="resp_1")
    assert [json.loads(item) for item in expansion.inherited] == [user("hi"), says("so", "msg_1")]


def test_a_compaction_stands_for_all_that_the_model_said_and_did(store: ConnectionState) -> None:
    compaction: JsonObject = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    developer: JsonObject = {"type": "message", "role": "developer", "content": "Be brief."}
    before = (
        developer,
        user("look"),
        thinks("hm", "rs_1"),
        calls("call_1", "fc_1"),
        call_output("call_1", "seen"),
        says("so", "msg_1"),
        user("and there?"),
    )
    trigger: JsonObject = {"type": "compaction_trigger"}
    store.save(turn(response("resp_1", compaction), *before, trigger))

    expansion = expanded(store, "go on", previous="resp_1")

    assert [json.loads(item) for item in expansion.inherited] == [
        developer,
        user("look"),
        user("and there?"),
        compaction,
    ]
    assert len(expansion.request.input or ()) == 5


def test_what_the_user_said_is_listed_from_the_whole_conversation(store: ConnectionState) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))

    said = expanded(
        store, [{"role": "user", "content": "more", "id": "msg_2"}], previous="resp_1"
    ).user_messages()

    assert [(item["role"], item["status"], item["content"]) for item in said] == [
        ("user", "completed", [{"type": "input_text", "text": "hi"}]),
        ("user", "completed", [{"type": "input_text", "text": "more"}]),
    ]
    assert said[1]["id"] == "msg_2"
    assert str(said[0]["id"]).startswith("msg_")


@pytest.mark.parametrize(
    ("replayed_param", "own_param"),
    [
        ("input[2].call_id", "input[0].call_id"),
        ("input[3].content[1]", "input[1].content[1]"),
        ("input[1]", "input"),
        ("tools[1].name", "tools[1].name"),
        (None, None),
    ],
)
def test_faults_name_the_item_as_the_client_counts(
    store: ConnectionState, replayed_param: str | None, own_param: str | None
) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    expansion = expanded(store, [user("a"), user("b")], previous="resp_1")
    with pytest.raises(InvalidRequest) as refused, expansion.own_indices():
        raise InvalidRequest("wrong", param=replayed_param)
    assert refused.value.param == own_param


def test_faults_of_a_request_without_a_previous_one_stay_as_they_are() -> None:
    with pytest.raises(InvalidRequest) as refused, expanded(Nothing(), [user("a")]).own_indices():
        raise InvalidRequest("wrong", param="input[0].content")
    assert refused.value.param == "input[0].content"


def test_the_request_says_whether_to_store() -> None:
    assert expanded(Nothing(), "hi").store
    assert not expanded(Nothing(), "hi", store=False).store
