from typing import Any

import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.conversation import Conversation
from qwen_mitm.wire.chat_request import AssistantMessage, ToolCall, ToolMessage
from tests.translate.sending import (
    assistant,
    call,
    chat_call,
    messages,
    output,
    thought,
    tool,
    user,
)


def test_a_turn_closes_when_its_calls_are_answered() -> None:
    conversation = Conversation()
    conversation.add_text("I look.")
    conversation.add_call(ToolCall("c1", "f", "{}"), 0)
    conversation.add_output("c1", "ok", (), 1)
    conversation.add_text("Found.")

    assert conversation.finish() == (
        AssistantMessage("I look.", None, (ToolCall("c1", "f", "{}"),)),
        ToolMessage("c1", "ok"),
        AssistantMessage("Found."),
    )


def test_consecutive_assistant_items_form_one_message() -> None:
    assert messages(
        user("go"),
        thought("I think"),
        assistant("first"),
        call("c1", arguments='{"a": 1}'),
        assistant("second"),
        thought("I think on"),
        call("c2", "g"),
        output("c1", "r1"),
        output("c2", "r2"),
    ) == [
        user("go"),
        {
            "role": "assistant",
            "content": "first\nsecond",
            "reasoning_content": "I think\nI think on",
            "tool_calls": [chat_call("c1", arguments='{"a": 1}'), chat_call("c2", "g")],
        },
        tool("c1", "r1"),
        tool("c2", "r2"),
    ]


def test_a_message_of_calls_only_has_empty_content() -> None:
    assert messages(user("go"), call("c1"), output("c1"))[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [chat_call("c1")],
    }


def test_a_new_round_of_calls_is_a_new_message() -> None:
    roles = [
        message["role"]
        for message in messages(
            user("go"), call("c1"), output("c1"), call("c2"), output("c2"), assistant("done")
        )
    ]

    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_outputs_may_come_in_any_order() -> None:
    found = messages(user("go"), call("c1"), call("c2"), output("c2"), output("c1"))

    assert found[2:] == [tool("c2"), tool("c1")]


def test_a_call_between_the_outputs_joins_the_open_turn() -> None:
    found = messages(
        user("go"), call("c1"), call("c2"), output("c1"), call("c3"), output("c3"), output("c2")
    )

    assert [made["id"] for made in found[1]["tool_calls"]] == ["c1", "c2", "c3"]
    assert found[2:] == [tool("c1"), tool("c3"), tool("c2")]


def test_a_user_message_before_the_output_waits_for_it() -> None:
    assert messages(user("go"), call("c1"), user("wait"), output("c1"), user("more"))[1:] == [
        {"role": "assistant", "content": "", "tool_calls": [chat_call("c1")]},
        tool("c1"),
        user("wait"),
        user("more"),
    ]


def test_a_call_id_may_be_used_again_after_its_output() -> None:
    found = messages(user("go"), call("c1"), output("c1", "a"), call("c1"), output("c1", "b"))

    assert [message["content"] for message in found if message["role"] == "tool"] == ["a", "b"]


def test_two_open_calls_with_one_id_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="Duplicate function call") as refused:
        messages(user("go"), call("c1"), call("c1"), output("c1"))

    assert refused.value.param == "input[2].call_id"


@pytest.mark.parametrize("items", [[output("c9")], [call("c1"), output("c1"), output("c1")]])
def test_an_output_without_its_call_is_refused_in_openais_words(items: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages(user("go"), *items)

    call_id = items[-1]["call_id"]
    assert refused.value.message == (
        f"No tool call found for function call output with call_id {call_id}."
    )
    assert refused.value.param == f"input[{len(items)}].call_id"


@pytest.mark.parametrize("after", [[], [user("x")], [user("x"), assistant("y"), output("c1")]])
def test_a_call_without_its_output_is_refused_in_openais_words(after: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages(user("go"), call("c1"), *after)

    assert refused.value.message == "No tool output found for function call c1."
    assert refused.value.param == "input[1]"
