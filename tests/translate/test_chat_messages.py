import json

from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.chat_messages import MessageTexts
from qwen_mitm.wire.chat_request import AssistantMessage, ChatMessage, ChatText, UserMessage

GENERIC, VLLM = PROFILES["generic"], PROFILES["vllm"]


def conversation(*texts: str) -> tuple[ChatMessage, ...]:
    return tuple(UserMessage((ChatText(text),)) for text in texts)


def said(texts: list[bytes]) -> list[str]:
    return [json.loads(text)["content"] for text in texts]


def test_messages_that_come_again_are_not_made_again() -> None:
    texts = MessageTexts()
    first = conversation("a", "b", "c")
    made = texts.of(first, GENERIC)
    again = texts.of((*first[:2], *conversation("d", "e")), GENERIC)

    assert said(again) == ["a", "b", "d", "e"]
    assert again[0] is made[0]
    assert again[1] is made[1]


def test_equal_messages_of_another_conversation_are_made_again() -> None:
    texts = MessageTexts()
    made = texts.of(conversation("a"), GENERIC)
    again = texts.of(conversation("a"), GENERIC)

    assert again == made
    assert again[0] is not made[0]


def test_each_host_gets_its_own_form() -> None:
    texts = MessageTexts()
    messages = (AssistantMessage("a", "thought"),)
    generic, vllm = texts.of(messages, GENERIC), texts.of(messages, VLLM)

    assert set(json.loads(vllm[0])) - set(json.loads(generic[0])) == {"reasoning"}
    assert texts.of(messages, GENERIC) == generic


def test_what_is_returned_can_be_changed_without_harm() -> None:
    texts = MessageTexts()
    messages = conversation("a", "b")
    texts.of(messages, GENERIC).clear()

    assert said(texts.of(messages, GENERIC)) == ["a", "b"]


def test_the_size_is_of_what_is_kept() -> None:
    texts = MessageTexts()
    messages = conversation("a", "b" * 1_000)

    for these in ((), messages, messages[:1], conversation("a" * 99), ()):
        made = texts.of(these, GENERIC)
        assert texts.size == sum(map(len, made))
