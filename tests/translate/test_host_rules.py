from dataclasses import replace

import pytest

from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.host_rules import drops_choice, must_stream
from qwen_mitm.wire.chat_request import (
    ChatRequest,
    ChatToolChoice,
    HostedChoice,
    NamedFunction,
)

CHAT = ChatRequest(model="qwen3.7-plus", system=None, messages=())


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        ("required", True),
        (NamedFunction("f"), True),
        (HostedChoice("web_search"), True),
        ("auto", False),
        ("none", False),
        (None, False),
    ],
)
def test_a_forced_choice_is_dropped_where_the_host_refuses_it_while_it_thinks(
    choice: ChatToolChoice | None, forced: bool
) -> None:
    chat = replace(CHAT, tool_choice=choice)
    assert drops_choice(chat, PROFILES["dashscope"]) is forced
    assert not drops_choice(replace(chat, effort="none"), PROFILES["dashscope"])
    assert not drops_choice(chat, PROFILES["openrouter"])


def test_a_model_that_is_to_think_has_to_stream_at_model_studio() -> None:
    thinking = replace(CHAT, effort="low")
    assert must_stream(thinking, PROFILES["dashscope"])
    assert not must_stream(replace(thinking, model="qwen3-coder-plus"), PROFILES["dashscope"])
    assert not must_stream(thinking, PROFILES["openrouter"])
