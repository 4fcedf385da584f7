from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_mitm.seal import Seal
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.compaction import INSTRUCTION, Compactor, compacted
from qwen_mitm.translate.draft import ResponseDraft
from qwen_mitm.translate.failure import failure_error
from qwen_mitm.wire.chat import ChatChunk
from qwen_mitm.wire.response_object import JsonObject
from tests.chat_checker import check_chat
from tests.translate.answers import (
    DONE,
    Answer,
    call,
    chunk,
    event,
    plain_context,
    text,
    thought,
    usage,
)
from tests.translate.sending import assistant, sent, translated, user
from tests.translate.sending import call as past_call
from tests.translate.sending import output as past_output
from tests.translate.test_properties import hostile

FIXTURES = Path(__file__).parents[1] / "fixtures"
SEAL = Seal(bytes(32))
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}}
TRIGGER = {"type": "compaction_trigger"}
HISTORY = [
    {"role": "developer", "content": "Be brief."},
    user("Where is it?"),
    past_call("c1", "look"),
    past_output("c1", "in a.py"),
    assistant("In a.py."),
]


def compactor() -> Compactor[ChatChunk]:
    context = plain_context()
    seal = partial(SEAL.seal, "compaction")
    return Compactor(context, ResponseDraft(context), Assembler, seal)


def answer(*pieces: bytes) -> Answer:
    return Answer(pieces, assembler=compactor())


def types(made: Answer) -> list[str]:
    return [event["type"].removeprefix("response.") for event in made.events]


def summary_of(item: dict[str, Any]) -> str | None:
    return SEAL.unseal("compaction", item["encrypted_content"])


def test_the_model_is_asked_for_a_summary_after_the_whole_conversation() -> None:
    body = sent({"input": [*HISTORY, TRIGGER]}, provider="dashscope")
    plain = sent({"input": HISTORY}, provider="dashscope")

    check_chat(body)
    assert body["messages"] == [*plain["messages"], user(INSTRUCTION)]


def test_the_tools_stay_for_the_prompt_cache_and_may_not_be_called() -> None:
    request = {"input": HISTORY, "tools": [TOOL], "tool_choice": "required"}
    body = sent({**request, "parallel_tool_calls": True}, compact=True, provider="dashscope")

    check_chat(body)
    assert body["tools"] == sent(request, provider="dashscope")["tools"]
    assert body["tool_choice"] == "none"
    assert "parallel_tool_calls" not in body


def test_the_request_of_codex_is_translated_whole() -> None:
    request = json.loads((FIXTURES / "clients" / "codex-trigger.json").read_text("utf-8"))
    body = sent(request, provider="portal", stream=True)

    check_chat(body)
    assert [m["role"] for m in body["messages"]] == [
        *("system", "user", "user", "assistant", "tool", "user"),
    ]
    assert body["messages"][-1] == user(INSTRUCTION)
    offered = {tool["function"]["name"] for tool in body["tools"]}
    assert {"exec_command", "update_goal", "multi_agent_v1__close_agent"} <= offered
    assert body["tool_choice"] == "none"


def test_what_would_spoil_a_summary_is_not_asked_for() -> None:
    body = sent(
        {
            "input": "hi",
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "include": ["message.output_text.logprobs"],
            "top_logprobs": 3,
            "max_output_tokens": 500,
        },
        compact=True,
        provider="openrouter",
    )
    assert set(body) == {"model", "messages", "max_tokens"}


def test_a_conversation_without_a_user_gets_no_second_message_added() -> None:
    translation = translated({"input": [HISTORY[0], TRIGGER]}, provider="dashscope")
    assert translation.report.entries == ()


def test_the_answer_is_one_sealed_item() -> None:
    made = answer(thought("hm"), text("It is "), text("in a.py."), chunk(finish="stop"), usage())

    assert types(made) == [
        "created",
        "in_progress",
        "output_item.added",
        "compaction.compacting",
        "compaction.compacting",
        "compaction.compacting",
        "output_item.done",
        "completed",
    ]
    (item,) = made.output
    assert summary_of(item) == "It is in a.py."
    assert "in a.py" not in made.stream.decode()
    assert made.response["usage"]["output_tokens"] == 7


def test_the_whole_answer_of_a_host_that_does_not_stream_is_enough() -> None:
    message: JsonObject = {"role": "assistant", "content": "All of it.", "reasoning_content": "hm"}
    made = answer(event({"choices": [{"message": message, "finish_reason": "stop"}]}), DONE)
    assert [summary_of(item) for item in made.output] == ["All of it."]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_summary_that_was_cut_is_a_failure_that_no_repetition_mends(finish: str) -> None:
    made = answer(text("It is"), chunk(finish=finish), DONE)

    assert (made.status, made.output) == ("failed", [])
    assert made.response["error"]["code"] == "invalid_prompt"
    assert made.response["incomplete_details"] is None
    assert made.assembler.error is not None
    assert failure_error(made.assembler.error).status == 400


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk(finish="stop"), DONE],
        [text(" \n"), chunk(finish="stop"), DONE],
        [thought("hm"), chunk(finish="stop"), DONE],
        [chunk({"refusal": "No."}), chunk(finish="stop"), DONE],
        [text("Let me look."), call("{}", index=0, id="c", name="f"), chunk(finish="stop"), DONE],
        [],
    ],
)
def test_an_answer_without_a_summary_is_a_failure(pieces: list[bytes]) -> None:
    made = answer(*pieces)

    assert (made.status, made.output) == ("failed", [])
    assert made.response["error"]["code"] == "server_error"


def test_a_failure_of_the_upstream_keeps_its_words() -> None:
    error: JsonObject = {
        "message": "Range of input length should be [1, 9]",
        "code": "invalid_parameter",
    }
    made = answer(text("It"), event({"error": error}))

    assert made.response["error"] == {
        "code": "context_length_exceeded",
        "message": "Range of input length should be [1, 9]",
    }
    assert made.output == []


def test_an_answer_that_breaks_off_is_a_failure() -> None:
    assert answer(text("It is")).status == "failed"


def test_a_compacted_conversation_is_the_users_messages_and_the_item() -> None:
    made = answer(text("It is in a.py."), chunk(finish="stop"), usage())
    kept: JsonObject = {"type": "message", "id": "msg_1", "role": "user", "content": []}

    assert compacted(made.response, [kept]) == {
        "id": made.response["id"],
        "object": "response.compaction",
        "created_at": made.response["created_at"],
        "output": [kept, *made.output],
        "usage": made.response["usage"],
    }


@given(pieces=st.lists(hostile, max_size=12))
@settings(max_examples=300, deadline=None)
def test_hostile_answers_become_one_item_or_a_failure(pieces: list[bytes]) -> None:
    made = Answer(pieces, assembler=compactor())

    assert made.status in {"completed", "failed"}
    assert len(made.output) == (made.status == "completed")
