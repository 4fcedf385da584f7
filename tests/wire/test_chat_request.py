from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatImage,
    ChatText,
    ToolCall,
    ToolMessage,
    UserMessage,
    texts_of,
)


def test_the_texts_are_what_the_model_reads_and_no_image() -> None:
    messages = (
        UserMessage((ChatText("look"), ChatImage("data:image/png;base64,AAAA"))),
        AssistantMessage("I look", "hm", (ToolCall("c1", "f", '{"a":1}'),)),
        ToolMessage("c1", "seen"),
    )

    texts = [text for message in messages for text in texts_of(message)]

    assert texts == ["look", "I look", "hm", '{"a":1}', "seen"]
