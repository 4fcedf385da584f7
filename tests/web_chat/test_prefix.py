from qwen_mitm.web_chat.prefix import conversation_key, key_after, prefix_key
from qwen_mitm.wire.chat_request import AssistantMessage, ChatMessage, ToolCall, ToolMessage
from tests.web_chat.pieces import WEATHER, chat, user

ONE = (user("Hello"), AssistantMessage("Hi."))


def key(*messages: ChatMessage, **fields: object) -> str | None:
    return prefix_key(chat(*messages, **fields))  # type: ignore[arg-type]


def test_a_conversation_without_an_answer_has_no_prefix() -> None:
    assert key(user("Hello")) is None


def test_the_next_turn_finds_what_the_last_one_left() -> None:
    left = key_after(chat(user("Hello")), AssistantMessage("Hi."))
    assert key(*ONE, user("Next")) == key(*ONE, user("Other")) == left


def test_later_turns_find_it_too() -> None:
    left = key_after(chat(*ONE, user("Next")), AssistantMessage("Yes?"))
    assert key(*ONE, user("Next"), AssistantMessage("Yes?"), user("Go")) == left
    assert left != key(*ONE, user("Go"))


def test_the_same_opening_is_not_the_same_conversation() -> None:
    assert key(user("Hello"), AssistantMessage("Hi."), user("a")) != key(
        user("Hello"), AssistantMessage("Hey."), user("a")
    )


def test_an_edited_a_shortened_and_a_compacted_history_have_keys_of_their_own() -> None:
    whole = (*ONE, user("Next"), AssistantMessage("Yes?"))
    edited = (user("Hallo"), *whole[1:])
    compacted = (user("Summary: greetings"), AssistantMessage("Yes?"))
    keys = {key(*history, user("Go")) for history in (whole, edited, whole[:2], compacted)}
    assert len(keys) == 4


def test_other_instructions_tools_or_models_have_keys_of_their_own() -> None:
    asked = (*ONE, user("Go"))
    keys = {
        key(*asked),
        key(*asked, system="Make a title."),
        key(*asked, tools=[WEATHER]),
        key(*asked, model="qwen3-coder-plus"),
    }
    assert len(keys) == 4


def test_ids_of_calls_spaces_in_arguments_and_thoughts_do_not_matter() -> None:
    first = AssistantMessage("Look. ", "hm", (ToolCall("a", "f", '{"x":1,"y":[{"b":2,"a":1}]}'),))
    again = AssistantMessage("Look.", None, (ToolCall("z", "f", '{ "y":[{"a":1,"b":2}],"x":1}'),))
    assert key_after(chat(user("Hi")), first) == key(user("Hi"), again, ToolMessage("z", "out"))


def test_results_in_another_order_are_another_history() -> None:
    calls = AssistantMessage("", None, (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")))
    outputs = (ToolMessage("a", "1"), ToolMessage("b", "2"))
    swapped = (ToolMessage("a", "2"), ToolMessage("b", "1"))
    done = AssistantMessage("Done.")
    assert key(user("Hi"), calls, *outputs, done) != key(user("Hi"), calls, *swapped, done)


def test_the_boundaries_of_messages_count() -> None:
    assert conversation_key(chat(user("ab"), user("c"))) != conversation_key(
        chat(user("a"), user("bc"))
    )
