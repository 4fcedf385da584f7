import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.past import Past
from qwen_mitm.translate.request import Translation, translate
from qwen_mitm.wire.input_items import InputItem
from qwen_mitm.wire.responses import parse_request
from tests.translate.sending import assistant, call, items_of, output, user

SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
REQUEST = parse_request(b'{"model":"m"}')
NAMED = {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}


def turn(
    items: tuple[InputItem, ...], past: Past | None = None, provider: str = "generic"
) -> Translation:
    return translate(
        REQUEST.model_copy(update={"input": items}), profile=PROFILES[provider], past=past
    )


def same(one: Translation, other: Translation) -> bool:
    return (one.chat, one.report.entries, one.estimated_input_tokens) == (
        other.chat,
        other.report.entries,
        other.estimated_input_tokens,
    )


HISTORY = items_of(user("a"), assistant("b"), call("c"), output("c", "d"), SEARCH)
MORE = (*HISTORY, *items_of(assistant("e"), user("f")))


def test_a_conversation_goes_on_with_the_messages_that_were_made_before() -> None:
    first = turn(HISTORY)
    second = turn(MORE, first.past)

    assert same(second, turn(MORE))
    assert second.chat.messages[0] is first.chat.messages[0]
    assert ("dropped_item", "web_search_call") in second.report.entries


def test_the_same_items_of_another_parse_are_translated_again() -> None:
    first = turn(HISTORY)
    again = turn(items_of(user("a"), assistant("b")), first.past)

    assert again.chat.messages[0] is not first.chat.messages[0]
    assert again.chat.messages[0] == first.chat.messages[0]


def test_a_past_for_another_host_is_not_used() -> None:
    first = turn(HISTORY)
    second = turn(MORE, first.past, "portal")

    assert same(second, turn(MORE, provider="portal"))
    assert second.chat.messages[0] is not first.chat.messages[0]


def test_calls_get_their_names_from_the_tools_of_this_turn() -> None:
    items = items_of(user("a"), call("c", namespace="n"), output("c"))
    declared = items_of({"type": "additional_tools", "role": "developer", "tools": [NAMED]})
    # A plain tool takes the name that the call had.
    taken = items_of(
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{"type": "function", "name": "n__f"}, NAMED],
        }
    )
    past = turn((*items, *declared)).past

    assert same(turn((*items, *declared, *taken), past), turn((*items, *declared, *taken)))
    assert same(turn((*items, *taken), turn(items).past), turn((*items, *taken)))


def test_a_past_can_be_gone_on_from_more_than_once() -> None:
    past = turn(HISTORY).past
    wrong = (*HISTORY, *items_of(user("x"), output("nobody")))
    with pytest.raises(InvalidRequest):
        turn(wrong, past)

    assert same(turn(MORE, past), turn(MORE))
    assert same(turn(MORE[:-1], past), turn(MORE[:-1]))
    assert same(turn(HISTORY, past), turn(HISTORY))


def test_a_fault_is_named_by_its_place_in_the_whole_input() -> None:
    with pytest.raises(InvalidRequest) as raised:
        turn((*HISTORY, *items_of(output("nobody"))), turn(HISTORY).past)

    assert raised.value.param == "input[5].call_id"
