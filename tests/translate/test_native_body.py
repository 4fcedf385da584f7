import json
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.native_body import native_body
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.responses import parse_request
from tests.responses_checker import check_request
from tests.translate.sending import assistant, call, output, thought, user

CAPTURES = Path(__file__).parents[1] / "fixtures" / "captures"
SEARCH = {"type": "web_search", "search_context_size": "low"}


def sent(
    request: dict[str, Any], provider: str = "dashscope", encrypted: bool = False
) -> dict[str, Any]:
    parsed = parse_request(json.dumps({"model": "qwen3.7-plus", **request}).encode())
    dialect = PROFILES[provider].dialect("responses", "qwen3.7-plus")
    translation = translate(
        parsed,
        profile=dialect.profile,
        wire=dialect.wire,
        unseal={"qm1.own": "a thought of ours"}.get,
        unseal_of_host={"qm1.host": "gAAA"}.get,
    )
    body: dict[str, Any] = json.loads(
        native_body(translation.chat, dialect.profile, stream=True, encrypted=encrypted)
    )
    check_request(body)
    return body


def test_a_conversation_keeps_the_form_of_items() -> None:
    picture = {"type": "input_image", "image_url": "https://example.com/a.png"}
    body = sent(
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "And polite."},
                user([{"type": "input_text", "text": "look"}, picture]),
                thought("hm"),
                assistant("I look."),
                call("c1", "f", '{"a": 1}'),
                output("c1", "it is there"),
                user("thanks"),
            ],
        }
    )
    text = {"type": "output_text", "text": "I look.", "annotations": []}
    assert body["input"] == [
        {
            "type": "message",
            "role": "system",
            "content": [{"type": "input_text", "text": "Be brief.\n\nAnd polite."}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "look"}, {**picture, "detail": "auto"}],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [text]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "it is there"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "thanks"}],
        },
    ]


def test_the_settings_go_along_and_nothing_is_kept_there() -> None:
    body = sent(
        {
            "input": "hi",
            "store": True,
            "metadata": {"a": "b"},
            "prompt_cache_key": "k",
            "max_output_tokens": 9,
            "temperature": 0,
            "top_logprobs": 2,
            "include": ["message.output_text.logprobs"],
            "reasoning": {"effort": "minimal", "summary": "auto"},
            "text": {
                "format": {"type": "json_schema", "name": "n", "schema": {}},
                "verbosity": "low",
            },
        },
        encrypted=True,
    )
    del body["input"]
    assert body == {
        "model": "qwen3.7-plus",
        "store": False,
        "stream": True,
        "max_output_tokens": 9,
        "temperature": 0,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    }


def test_each_thought_is_in_the_form_that_the_host_can_read() -> None:
    items = [
        user("go"),
        thought("shown", sealed="qm1.host"),
        thought("shown", sealed="qm1.own"),
        thought("only this", sealed="foreign"),
        assistant("so"),
    ]
    first, second, *_ = sent({"input": items})["input"][1:]
    assert first == {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "shown"}],
        "encrypted_content": "gAAA",
    }
    assert second["summary"][0]["text"] == "a thought of ours\nonly this"
    assert "encrypted_content" not in second


def test_tools_of_the_client_are_functions_and_those_of_the_host_stay() -> None:
    tools = [
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
        SEARCH,
        {"type": "web_search_preview_2025_03_11"},
        {"type": "web_extractor"},
        {"type": "image_generation"},
    ]
    body = sent({"input": "hi", "tools": tools, "parallel_tool_calls": False})
    assert [(tool["type"], tool.get("name")) for tool in body["tools"]] == [
        ("function", "patch"),
        ("function", "n__f"),
        ("web_search", None),
        ("web_extractor", None),
    ]
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"type": "web_search"}, {"type": "web_search"}),
        ({"type": "custom", "name": "patch"}, {"type": "function", "name": "patch"}),
        ("required", "required"),
    ],
)
def test_a_choice_names_the_tool_as_the_host_knows_it(choice: Any, chosen: Any) -> None:
    request = {
        "input": "hi",
        "tools": [SEARCH, {"type": "custom", "name": "patch"}],
        "tool_choice": choice,
        "reasoning": {"effort": "none"},
    }
    assert sent(request)["tool_choice"] == chosen


def test_allowed_tools_may_be_those_of_the_host() -> None:
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    tools = [{"type": "function", "name": "f"}, SEARCH, {"type": "web_extractor"}]
    body = sent({"input": "hi", "tools": tools, "tool_choice": allowed})
    assert [tool["type"] for tool in body["tools"]] == ["web_search"]


def test_a_host_without_that_tool_does_not_get_it() -> None:
    assert "tools" not in sent({"input": "hi", "tools": [SEARCH]}, provider="openrouter")
    request = {"input": "hi", "tools": [SEARCH], "tool_choice": {"type": "web_search"}}
    with pytest.raises(InvalidRequest):
        sent(request, provider="openrouter")


def test_items_have_ids_where_the_host_wants_them() -> None:
    items = [user("go"), thought("hm"), assistant("so"), call("c"), output("c")]
    made = sent({"input": items}, provider="openrouter")["input"]
    assert [item["id"] for item in made] == ["msg_0", "rs_1", "msg_2", "fc_3", "fco_4"]
    assert "id" not in sent({"input": items})["input"][0]


@pytest.mark.parametrize("provider", ["dashscope", "token-plan", "openrouter", "generic"])
@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.json")), ids=lambda path: path.stem)
def test_recorded_requests_are_accepted(path: Path, provider: str) -> None:
    for request in _requests(path):
        sent({**request, "model": "qwen3.7-plus"}, provider)


def _requests(path: Path) -> list[dict[str, Any]]:
    recorded = json.loads(path.read_text())
    found = recorded if isinstance(recorded, list) else [recorded]
    bodies = [it.get("body", it) if isinstance(it, dict) else {} for it in found]
    return [
        body
        for body in bodies
        if isinstance(body, dict) and "input" in body and not body.get("previous_response_id")
    ]
