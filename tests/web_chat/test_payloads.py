import json
from typing import Any

import pytest

from qwen_mitm.web_chat.payloads import (
    create_chat_payload,
    create_completion_payload,
    create_qwen_message,
)
from tests.web_chat.pieces import CHAT, PARENT

NOW_MS = 1_761_484_022_218


def message(parent_id: str | None = None, **fields: Any) -> dict[str, Any]:
    made = create_qwen_message(
        "Hello", model="qwen3-max", parent_id=parent_id, fid="f-1", now_s=NOW_MS // 1000, **fields
    )
    document: dict[str, Any] = json.loads(made.encoded())
    return document


def test_a_chat_is_created_with_a_time_in_milliseconds() -> None:
    payload = create_chat_payload(
        key="0123456789abcdef", model="qwen3-max", chat_mode="guest", now_ms=NOW_MS
    )
    assert json.loads(payload.encoded()) == {
        "title": "Conversation 01234567",
        "models": ["qwen3-max"],
        "chat_mode": "guest",
        "chat_type": "t2t",
        "timestamp": NOW_MS,
    }


def test_a_message_has_every_field_of_the_site() -> None:
    document = message(PARENT)
    config = document.pop("feature_config")
    assert document == {
        "fid": "f-1",
        "parentId": PARENT,
        "parent_id": PARENT,
        "childrenIds": [],
        "role": "user",
        "content": "Hello",
        "user_action": "chat",
        "files": [],
        "timestamp": 1_761_484_022,
        "models": ["qwen3-max"],
        "chat_type": "t2t",
        "sub_chat_type": "t2t",
        "extra": {"meta": {"subChatType": "t2t"}},
    }
    assert config["thinking_enabled"] is False
    assert config["output_schema"] == "phase"


def test_the_first_message_says_null_in_both_spellings() -> None:
    document = message()
    assert document["parent_id"] is None
    assert document["parentId"] is None


@pytest.mark.parametrize(
    ("effort", "thinks", "budget"),
    [(None, False, None), ("none", False, None), ("low", True, 1024), ("high", True, None)],
)
def test_effort_is_a_switch_and_a_budget(effort: str, thinks: bool, budget: int | None) -> None:
    config = message(effort=effort)["feature_config"]
    assert config["thinking_enabled"] is thinks
    assert config.get("thinking_budget") == budget
    assert ("thinking_budget" in config) == (budget is not None)


def test_the_sites_own_tools_are_off() -> None:
    config = message()["feature_config"]
    for tool in ("auto_search", "code_interpreter", "function_calling", "plugins_enabled"):
        assert config[tool] is False


def test_a_completion_holds_one_message_and_the_time_in_seconds() -> None:
    made = create_qwen_message("Hello", model="m", parent_id=PARENT, fid="f", now_s=7)
    payload = create_completion_payload(made, chat_id=CHAT, chat_mode="normal", temperature=0.7)
    document = json.loads(payload.encoded())
    assert len(document.pop("messages")) == 1
    assert document == {
        "stream": True,
        "version": "2.1",
        "incremental_output": True,
        "chat_id": CHAT,
        "chat_mode": "normal",
        "model": "m",
        "parent_id": PARENT,
        "timestamp": 7,
        "temperature": 0.7,
    }


def test_a_parent_that_is_no_uuid_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="UUID"):
        message("msg-1")
