import json
from typing import Any

import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import PROFILES, WEB_CHAT
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.responses import parse_request
from tests.chat_checker import check_chat
from tests.translate.sending import (
    assistant,
    call,
    messages,
    output,
    sent,
    thought,
    translated,
    user,
)

TOOLS = [{"type": "function", "name": "f"}]
FORCED = {"input": "x", "tools": TOOLS, "tool_choice": "required"}


def extras(request: dict[str, Any], provider: str, *, stream: bool = True) -> dict[str, Any]:
    body = sent({"input": "x", **request}, provider=provider, stream=stream)
    plain = {"model", "messages", "stream", "stream_options"}
    return {name: value for name, value in body.items() if name not in plain}


def thinking(effort: str, provider: str, model: str = "qwen3.7-plus") -> dict[str, Any]:
    return extras({"model": model, "reasoning": {"effort": effort}}, provider)


def test_a_plain_request_has_nothing_that_was_not_asked_for() -> None:
    assert sent({"input": "hi"}) == {"model": "qwen3.7-plus", "messages": [user("hi")]}


def test_a_stream_asks_for_usage() -> None:
    body = sent({"input": "hi", "stream_options": {"include_obfuscation": True}}, stream=True)

    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_the_portal_gets_a_system_list_that_begins_with_a_cached_block() -> None:
    block = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
    first = sent({"instructions": "be brief", "input": "x"}, provider="portal")["messages"][0]

    assert first == {"role": "system", "content": [block, {"type": "text", "text": "be brief"}]}
    assert messages(user("x"), provider="portal")[0] == {"role": "system", "content": [block]}


def test_the_portal_gets_user_texts_as_one_string_and_images_as_parts() -> None:
    texts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    image = {"type": "input_image", "image_url": "data:x"}

    assert messages(user(texts), provider="portal")[1] == user("a\nb")
    content = messages(user([*texts, image]), provider="portal")[1]["content"]
    assert [part["type"] for part in content] == ["text", "text", "image_url"]


@pytest.mark.parametrize("broken", ['{"cmd": "ls', "7", '"text"', "[1]", "NaN", '{"a": NaN}'])
def test_broken_arguments_of_the_history_do_not_poison_the_session(broken: str) -> None:
    items = (user("go"), call("c1", arguments=broken), output("c1"))

    def arguments(provider: str) -> str:
        found = messages(*items, provider=provider)[-2]["tool_calls"][0]["function"]["arguments"]
        assert isinstance(found, str)
        return found

    assert arguments("generic") == broken
    for provider in ("portal", "dashscope", "coding-plan", "token-plan"):
        assert json.loads(arguments(provider)) == {"invalid_arguments": broken}


def test_good_arguments_stay_as_they_were_written() -> None:
    written = '{ "a" : 1.0,\t"b":"\\u00e9" }'
    found = messages(user("go"), call("c1", arguments=written), output("c1"), provider="dashscope")

    assert found[1]["tool_calls"][0]["function"]["arguments"] == written


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        ("none", {"enable_thinking": False}),
        ("minimal", {"enable_thinking": True, "thinking_budget": 1024}),
        ("low", {"enable_thinking": True, "thinking_budget": 1024}),
        ("medium", {"enable_thinking": True, "thinking_budget": 8192}),
        ("high", {"enable_thinking": True}),
        ("xhigh", {"enable_thinking": True}),
        ("ultra", {"enable_thinking": True}),
    ],
)
def test_an_effort_is_a_switch_and_a_budget_on_model_studio(
    effort: str, expected: dict[str, Any]
) -> None:
    assert thinking(effort, "dashscope") == expected


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("qwen3.8-max", "high", {"reasoning_effort": "high"}),
        ("qwen3.8-flash", "high", {"reasoning_effort": "xhigh"}),
        ("qwen3.8-max", "max", {"reasoning_effort": "xhigh"}),
        ("qwen3.8-max", "minimal", {"reasoning_effort": "low"}),
        ("qwen3.8-max", "none", {"reasoning_effort": "none"}),
        ("qwen3-coder-plus", "high", {}),
    ],
)
def test_an_effort_follows_the_model_on_model_studio(
    model: str, effort: str, expected: dict[str, Any]
) -> None:
    assert thinking(effort, "token-plan", model) == expected


@pytest.mark.parametrize(
    ("provider", "effort", "expected"),
    [
        ("vllm", "none", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("sglang", "low", {"chat_template_kwargs": {"enable_thinking": True}}),
        ("openrouter", "xhigh", {"reasoning": {"effort": "xhigh"}}),
        ("openrouter", "ultra", {"reasoning": {"effort": "xhigh"}}),
        ("ollama", "minimal", {"reasoning_effort": "low"}),
        ("generic", "max", {"reasoning_effort": "high"}),
        ("generic", "medium", {"reasoning_effort": "medium"}),
    ],
)
def test_an_effort_has_the_form_of_its_host(
    provider: str, effort: str, expected: dict[str, Any]
) -> None:
    assert thinking(effort, provider) == expected


@pytest.mark.parametrize("provider", PROFILES)
def test_the_reasoning_object_of_the_client_never_leaks(provider: str) -> None:
    assert extras({"reasoning": {"summary": "auto"}}, provider) == {}


def test_thinking_on_model_studio_is_asked_for_in_a_stream() -> None:
    def streams(effort: str | None, model: str = "qwen3.7-plus") -> bool:
        request = {"model": model, "input": "x", "reasoning": {"effort": effort}}
        return "stream" in sent(request, provider="dashscope", stream=False)

    assert streams("high")
    assert not streams("none")
    assert not streams(None)
    assert not streams("high", "qwen3-coder-plus")


def test_thoughts_of_the_history_go_where_the_host_reads_them() -> None:
    items = [user("go"), thought("hm"), call("c1"), output("c1")]

    def fields(provider: str) -> set[str]:
        body = sent({"input": items}, provider=provider)
        message = next(each for each in body["messages"] if each["role"] == "assistant")
        return {name for name in message if name.startswith("reasoning")} | (
            {"preserve_thinking"} & body.keys()
        )

    assert fields("dashscope") == {"reasoning_content", "preserve_thinking"}
    assert fields("vllm") == {"reasoning_content", "reasoning"}
    assert fields("openrouter") == {"reasoning"}
    assert fields("generic") == {"reasoning_content"}


def test_a_forced_choice_is_dropped_with_a_warning_while_the_model_thinks() -> None:
    assert "tool_choice" not in sent(FORCED, provider="dashscope")
    report = translated(FORCED, provider="dashscope").report
    assert report.header() == "dropped_field; tool_choice"


@pytest.mark.parametrize(
    ("more", "provider"),
    [
        ({"reasoning": {"effort": "none"}}, "dashscope"),
        ({"model": "qwen3-coder-plus"}, "dashscope"),
        ({"reasoning": {"effort": "high"}}, "generic"),
    ],
)
def test_a_forced_choice_stays_where_it_is_possible(more: dict[str, Any], provider: str) -> None:
    assert sent({**FORCED, **more}, provider=provider)["tool_choice"] == "required"
    assert translated({**FORCED, **more}, provider=provider).report.header() == ""


def test_a_host_that_heeds_no_choice_gets_no_tools_when_none_may_be_called() -> None:
    request = {"input": "x", "tools": TOOLS, "tool_choice": "none", "parallel_tool_calls": True}
    assert not extras(request, "ollama").keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    assert extras(request, "vllm")["tools"]
    assert extras({**request, "tool_choice": "auto"}, "ollama")["tools"]


def test_a_conversation_without_a_user_gets_one_where_it_must() -> None:
    request = {"instructions": "be brief", "input": [call("c1"), output("c1")]}

    assert [m["role"] for m in sent(request, provider="dashscope")["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert translated(request, provider="dashscope").report.header() == "added_message; user"
    assert "user" not in [m["role"] for m in sent(request)["messages"]]


def test_verbosity_goes_only_where_it_is_known() -> None:
    request = {"text": {"verbosity": "low"}}

    assert extras(request, "openrouter") == {"verbosity": "low"}
    assert extras(request, "dashscope") == {}


def test_one_translation_serves_several_hosts() -> None:
    chat = translated(
        {"input": [user("go"), thought("x"), call("c1", arguments="{"), output("c1")]}
    )
    first = chat_body(chat.chat, PROFILES["portal"], stream=True)
    chat_body(chat.chat, PROFILES["generic"], stream=False)

    assert chat_body(chat.chat, PROFILES["portal"], stream=True) == first


JSON_OBJECT = {"format": {"type": "json_object"}}


@pytest.mark.parametrize("provider", ["dashscope", "portal", "coding-plan", "token-plan"])
def test_the_word_that_json_needs_is_added_where_it_must(provider: str) -> None:
    request = {"input": [user("List the files."), assistant("As JSON?")], "text": JSON_OBJECT}
    body = sent(request, provider=provider)

    assert "Answer with a JSON object." in json.dumps(body["messages"][0])
    assert body["messages"][0]["role"] == "system"
    assert ("added_text", "json") in translated(request, provider=provider).report.entries
    check_chat(body)


@pytest.mark.parametrize(
    ("provider", "more"),
    [
        ("dashscope", {"instructions": "Write Json."}),
        ("dashscope", {"input": [user([{"type": "input_text", "text": "in JSON"}])]}),
        ("dashscope", {"text": {"format": {"type": "text"}}}),
        ("openrouter", {}),
        ("vllm", {}),
    ],
)
def test_the_word_that_json_needs_is_not_added_elsewhere(
    provider: str, more: dict[str, Any]
) -> None:
    request = {"input": "List the files.", "text": JSON_OBJECT, **more}
    assert "Answer with a JSON object." not in json.dumps(sent(request, provider=provider))
    assert translated(request, provider=provider).report.entries == ()


def test_the_word_that_json_needs_follows_the_instructions() -> None:
    request = {"input": "x", "instructions": "Be brief.", "text": JSON_OBJECT}
    system = sent(request, provider="dashscope")["messages"][0]["content"]
    assert system == "Be brief.\n\nAnswer with a JSON object."


def test_what_a_web_chat_leaves_out_is_named_as_the_client_names_it() -> None:
    image = {"type": "input_image", "image_url": "data:x"}
    fields = {"model": "m", "input": [user([image])], "temperature": 0.7, "max_output_tokens": 9}
    request = parse_request(json.dumps(fields).encode())

    assert translate(request, profile=WEB_CHAT).report.header() == (
        "dropped_content; input_image, dropped_field; temperature, dropped_field; max_output_tokens"
    )


def test_a_web_search_is_a_switch_where_the_host_searches_in_chat() -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
    request = {"input": "hi", "tools": tools}
    body = sent(request, provider="dashscope")
    assert body["enable_search"] is True
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]
    assert translated(request, provider="dashscope").report.header() == ""

    for elsewhere in ("coding-plan", "token-plan", "openrouter", "generic"):
        assert "enable_search" not in sent(request, provider=elsewhere)
        report = translated(request, provider=elsewhere).report
        assert report.header() == "dropped_tool; web_search"


ONLY_F = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}


@pytest.mark.parametrize("choice", ["none", ONLY_F])
def test_nothing_is_searched_when_the_tool_may_not_be_used(choice: object) -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
    body = sent({"input": "hi", "tools": tools, "tool_choice": choice}, provider="dashscope")
    assert "enable_search" not in body


def test_nothing_is_searched_for_tool_choice_none_without_other_tools() -> None:
    request = {"input": "hi", "tools": [{"type": "web_search"}], "tool_choice": "none"}
    assert "enable_search" not in sent(request, provider="dashscope")


def test_a_search_cannot_be_forced_in_chat() -> None:
    request = {"input": "hi", "tools": [{"type": "web_search"}]}
    for choice in ("required", {"type": "web_search"}):
        with pytest.raises(InvalidRequest, match=r"needs at least one|cannot be forced"):
            sent({**request, "tool_choice": choice}, provider="dashscope")
