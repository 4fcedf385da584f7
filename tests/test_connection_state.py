from qwen_mitm.connection_state import ConnectionState
from tests.stored_turns import Nothing, expanded, response, says, turn, user


def test_a_response_that_is_not_to_be_stored_can_be_continued_on_its_connection() -> None:
    below = ConnectionState(Nothing())
    store = ConnectionState(Nothing())
    store.save(turn(response("resp_1", says("hello", "msg_1"), store=False), user("hi")))
    assert expanded(store, "more", previous="resp_1").request.input is not None
    assert below.context("resp_1") is None


def test_what_another_connection_stored_is_found_below() -> None:
    below = ConnectionState(Nothing())
    below.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    store = ConnectionState(below)
    assert store.get("resp_1") == response("resp_1", says("hello", "msg_1"))
    assert store.context("resp_1") == below.context("resp_1")
    assert store.item("msg_1") == below.item("msg_1") is not None
    assert store.input_items("resp_1") == below.input_items("resp_1") is not None


def test_a_response_goes_below_as_well() -> None:
    below = ConnectionState(Nothing())
    ConnectionState(below).save(turn(response("resp_1"), user("hi")))
    assert below.get("resp_1") is not None


def test_only_the_latest_responses_are_remembered() -> None:
    store = ConnectionState(Nothing(), limit=2)
    for number in range(3):
        store.save(turn(response(f"resp_{number}"), user("hi")))
    assert [store.get(f"resp_{number}") is None for number in range(3)] == [True, False, False]


def test_a_deleted_response_is_gone_here_and_below() -> None:
    below = ConnectionState(Nothing())
    store = ConnectionState(below)
    store.save(turn(response("resp_1"), user("hi")))
    assert store.delete("resp_1")
    assert store.get("resp_1") is None
    assert below.get("resp_1") is None
    assert not store.delete("resp_1")


def test_an_item_is_found_by_its_own_id_and_by_the_one_that_it_was_given() -> None:
    store = ConnectionState(Nothing())
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    given = (store.input_items("resp_1") or [])[0]["id"]
    assert b'"hello"' in (store.item("msg_1") or b"")
    assert b'"hi"' in (store.item(str(given)) or b"")
    assert store.item("msg_2") is None
