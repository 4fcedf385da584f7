from qwen_mitm.wire.chat_request import (
    AssistantMessage,
    ChatImage,
    ChatRequest,
    ChatText,
    ToolCall,
    ToolMessage,
    UserMessage,
)


def test_the_texts_are_what_the_model_reads_and_no_image() -> None:
    chat = ChatRequest(
        model="m",
        system="be brief",
        messages=(
            UserMessage((ChatText("look"), ChatImage("data:image/png;base64,AAAA"))),
            AssistantMessage("I look", "hm", (ToolCall("c1", "f", '{"a":1}'),)),
            ToolMessage("c1", "seen"),
        ),
    )

    assert list(chat.texts()) == ["be brief", "look", "I look", "hm", '{"a":1}', "seen"]
