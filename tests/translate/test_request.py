import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.responses import parse_request
from tests.chat_checker import check_chat
from tests.translate.sending import sent, translated, user

CAPTURES = Path(__file__).parent.parent / "fixtures" / "captures"
TOOLS = [{"type": "function", "name": "f"}]
STREAMED = {"stream", "stream_options"}
CODEX_TOOLS = [
    *("exec_command", "write_stdin", "request_user_input", "view_image"),
    *("multi_agent_v1__close_agent", "multi_agent_v1__resume_agent", "multi_agent_v1__send_input"),
    *("multi_agent_v1__spawn_agent", "multi_agent_v1__wait_agent"),
    *("get_goal", "create_goal", "update_goal"),
]
OPENCODE_TOOLS = [
    *("bash", "edit", "glob", "grep", "read"),
    *("skill", "task", "todowrite", "webfetch", "write"),
]


def sketch(body: dict[str, Any]) -> str:
    """Roles in order, with the types of parts, thoughts and the names of calls."""
    words = []
    for message in body["messages"]:
        word = message["role"]
        if isinstance(message["content"], list):
            word += f"({','.join(part['type'] for part in message['content'])})"
        if "reasoning_content" in message:
            word += "+thought"
        words.append(
            word + "".join(f"+{c['function']['name']}" for c in message.get("tool_calls", ()))
        )
    return " ".join(words)


def capture(name: str, number: int) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((CAPTURES / f"{name}.json").read_text("utf-8"))[number]
    return body


ACCEPTED = {
    ("agents-py-parallel", 0): "system user",
    ("agents-py-parallel", 1): "system user assistant+run_shell+run_shell tool tool",
    ("agents-py-text", 0): "system user",
    ("ai-sdk-parallel", 0): "system user",
    ("ai-sdk-parallel", 1): "system user assistant+run_shell+run_shell tool tool",
    ("ai-sdk-reasoning", 0): "system user",
    ("ai-sdk-reasoning", 1): "system user assistant+thought+run_shell tool",
    ("codex-compact", 0): "system user user",
    ("codex-compact", 1): "system user user assistant+exec_command tool user",
    ("codex-compact", 2): "system user user user",
    # Constructed from what is known of this form, not recorded.
    ("codex-constructed-responses-lite", 0): "system user",
    ("codex-constructed-responses-lite", 1): (
        "system user assistant+thought+exec+tool_search tool tool assistant+mcp__mail__send tool"
    ),
    ("codex-image", 0): "system user user(text,image_url,text,text)",
    ("codex-loop", 0): "system user user",
    ("codex-loop", 1): "system user user assistant+exec_command tool",
    ("codex-loop", 2): "system user user assistant+exec_command tool assistant+exec_command tool",
    ("codex-patch-write", 0): "system user user",
    ("codex-patch-write", 1): "system user user assistant+apply_patch tool",
    ("codex-plain-text", 0): "system user user",
    ("codex-reasoning", 0): "system user user",
    ("codex-reasoning", 1): "system user user assistant+thought+exec_command tool",
    ("codex-schema-text", 0): "system user user",
    ("codex-ws-text", 0): "system user user",
    ("openai-js-reasoning", 0): "system user",
    ("openai-js-reasoning", 1): "system user assistant+thought+run_shell tool",
    ("openai-py-nostream-loop", 0): "system user",
    ("openai-py-nostream-loop", 1): "system user assistant+run_shell tool",
    ("openai-py-nostream-loop", 2): (
        "system user assistant+run_shell tool assistant+run_shell tool"
    ),
    ("openai-py-parallel", 0): "system user",
    ("openai-py-parallel", 1): "system user assistant+run_shell+run_shell tool tool",
    ("openai-py-prev-loop", 0): "system user",
    ("openai-py-reasoning", 0): "system user",
    ("openai-py-reasoning", 1): "system user assistant+thought+run_shell tool",
    ("openai-py-text", 0): "system user",
    ("opencode-loop", 0): "system user user",
    ("opencode-loop", 1): "system user",
    ("opencode-loop", 2): "system user assistant+bash tool",
    ("opencode-loop", 3): "system user assistant+bash tool assistant+bash tool",
    ("opencode-parallel", 0): "system user user",
    ("opencode-parallel", 1): "system user",
    ("opencode-parallel", 2): "system user assistant+bash+bash tool tool",
    ("opencode-r-image", 0): "system user user(text,text,image_url,text)",
    ("opencode-r-image", 1): "system user(text,text,image_url,text)",
    ("opencode-r-reasoning", 0): "system user user",
    ("opencode-r-reasoning", 1): "system user",
    ("opencode-r-reasoning", 2): "system user assistant+thought+bash tool",
}
REFUSED = {
    ("openai-py-prev-loop", 1): ("previous_response_id", "previous_response_not_found"),
    ("openai-py-prev-loop", 2): ("previous_response_id", "previous_response_not_found"),
}


def test_every_captured_request_is_expected_here() -> None:
    found = {
        (path.stem, number)
        for path in CAPTURES.glob("*.json")
        for number in range(len(json.loads(path.read_text("utf-8"))))
    }

    assert found == ACCEPTED.keys() | REFUSED.keys()


@pytest.mark.parametrize(("name", "number"), ACCEPTED)
def test_requests_of_real_clients_become_requests_that_every_host_takes(
    name: str, number: int
) -> None:
    request = capture(name, number)
    translation = translate(parse_request(json.dumps(request).encode()))

    for profile in PROFILES.values():
        body = json.loads(chat_body(translation.chat, profile, stream=True))
        check_chat(body, profile.name)
        allowed = {"model", "messages", "tools", "tool_choice", "parallel_tool_calls"}
        allowed |= {"max_tokens", "response_format", "preserve_thinking", *STREAMED}
        assert body.keys() <= allowed
    generic = json.loads(chat_body(translation.chat, PROFILES["generic"], stream=True))
    assert sketch(generic) == ACCEPTED[name, number]
    assert generic["model"] == "qwen3-coder-plus"


@pytest.mark.parametrize(("name", "number"), REFUSED)
def test_requests_that_need_what_is_not_there_are_refused_clearly(name: str, number: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(capture(name, number))

    assert (refused.value.param, refused.value.code) == REFUSED[name, number]


def test_codex_tools_are_flattened_and_web_search_is_reported() -> None:
    translation = translated(capture("codex-loop", 1))

    assert [tool.name for tool in translation.chat.tools] == CODEX_TOOLS
    assert translation.report.header() == "dropped_tool; web_search"
    assert translation.chat.parallel_tool_calls is True
    assert translation.chat.tool_choice == "auto"


def test_codex_compaction_without_tools_sends_no_choice_either() -> None:
    request = capture("codex-compact", 1)
    assert (request["tools"], request["tool_choice"]) == ([], "auto")

    assert not {"tools", "tool_choice", "parallel_tool_calls"} & sent(request).keys()


def test_codex_freeform_patches_are_functions_with_the_grammar_in_their_description() -> None:
    request = capture("codex-patch-write", 1)
    (freeform,) = (tool for tool in request["tools"] if tool["type"] == "custom")
    translation = translated(request)
    body = sent(request)

    assert translation.report.header() == "dropped_tool; web_search"
    assert translation.echo.tools == request["tools"]
    offered = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
    assert list(offered) == [*CODEX_TOOLS[:3], "apply_patch", *CODEX_TOOLS[3:]]
    assert freeform["description"] in offered["apply_patch"]["description"]
    assert freeform["format"]["definition"] in offered["apply_patch"]["description"]
    (call,) = body["messages"][3]["tool_calls"]
    assert call["id"] == body["messages"][4]["tool_call_id"] == "call_0011"
    assert json.loads(call["function"]["arguments"]) == {"input": request["input"][4]["input"]}
    assert body["messages"][4]["content"] == request["input"][5]["output"]


RESPONSES_LITE: dict[str, Any] = {
    "input": [
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [
                {
                    "type": "namespace",
                    "name": "functions",
                    "tools": [
                        {"type": "custom", "name": "exec"},
                        {"type": "function", "name": "wait"},
                    ],
                },
                {"type": "namespace", "name": "agents", "tools": TOOLS},
            ],
        },
        {"role": "developer", "content": "be brief"},
        user("go"),
        {"type": "custom_tool_call", "call_id": "c", "name": "exec", "input": "text('hi')"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "hi"}],
        },
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
}


def test_tools_of_an_item_are_offered_and_leave_no_message() -> None:
    body = sent(RESPONSES_LITE)

    check_chat(body, "generic")
    assert sketch(body) == "system user assistant+exec tool"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["exec", "wait", "agents__f"]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)
    assert translated(RESPONSES_LITE).echo.tools == []


def test_a_tool_of_an_item_that_cannot_be_is_refused_there() -> None:
    item = {"type": "additional_tools", "tools": [{"type": "telepathy"}]}

    with pytest.raises(InvalidRequest, match="'telepathy'") as refused:
        sent({"input": [user("go"), item]})

    assert refused.value.param == "input[1].tools[0].type"


def test_updates_of_the_configuration_replace_what_the_request_says() -> None:
    def update(**fields: Any) -> dict[str, Any]:
        return {"type": "configuration_update", **fields}

    schema = {"type": "json_schema", "name": "n", "schema": {}}
    updates = [
        update(reasoning={"effort": "low"}),
        update(text={"format": {"type": "json_object"}}),
        update(reasoning={"effort": "high"}, text=None),
    ]
    request = {
        "reasoning": {"effort": "none", "summary": "auto"},
        "text": {"format": schema, "verbosity": "low"},
        "input": [updates[0], user("go"), *updates[1:]],
    }
    translation = translated(request)

    assert translation.chat.effort == "high"
    assert translation.chat.response_format == {"type": "json_object"}
    assert len(translation.chat.messages) == 1
    assert translation.echo.reasoning == {"effort": "high", "summary": "auto"}
    assert translation.echo.text == {"format": {"type": "json_object"}, "verbosity": "low"}
    assert translated({"input": [updates[0], user("go")]}).chat.effort == "low"


def test_codex_schemas_become_a_nested_response_format() -> None:
    assert sent(capture("codex-schema-text", 0))["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "codex_output_schema",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"answer": {"type": "string"}},
                "required": ["answer"],
                "additionalProperties": False,
            },
        },
    }


def test_opencode_tools_and_limits_are_kept() -> None:
    body = sent(capture("opencode-loop", 1))

    assert [tool["function"]["name"] for tool in body["tools"]] == OPENCODE_TOOLS
    assert body["max_tokens"] == 32000
    assert body["tool_choice"] == "auto"


def test_thoughts_of_a_client_come_back_to_the_model() -> None:
    body = sent(capture("opencode-r-reasoning", 2))

    assert body["messages"][2]["reasoning_content"].startswith("I should run the command first")
    assert body["messages"][2]["content"] == ""


def test_sampling_fields_keep_their_values_also_zero() -> None:
    fields = {
        "temperature": 0,
        "top_p": 0.5,
        "presence_penalty": 0,
        "frequency_penalty": -1.5,
        "max_output_tokens": 9,
    }
    body = sent({"input": "x", **fields})

    assert body["max_tokens"] == 9
    del fields["max_output_tokens"]
    assert {name: body[name] for name in fields} == fields


def test_logprobs_need_the_include() -> None:
    included = {"include": ["message.output_text.logprobs"], "top_logprobs": 3}

    body = sent({"input": "x", **included})
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert not {"logprobs", "top_logprobs"} & sent({"input": "x", "top_logprobs": 3}).keys()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({"type": "text"}, None), ({"type": "json_object"}, {"type": "json_object"})],
)
def test_simple_formats(wanted: dict[str, str], expected: dict[str, str] | None) -> None:
    assert sent({"input": "x", "text": {"format": wanted}}).get("response_format") == expected


def warnings(**fields: Any) -> list[tuple[str, str]]:
    return list(translated({"input": "x", **fields}).report.entries)


def test_a_field_that_is_not_known_is_dropped_by_name() -> None:
    assert warnings(
        context_management=[{"type": "compaction", "compact_threshold": 9}],
        moderation={"model": "m"},
        image={"context_compression": "enabled"},
        access_programs={"cyber": "standard"},
        stop=["END"],
    ) == [
        ("dropped_field", "context_management"),
        ("dropped_field", "moderation"),
        ("dropped_field", "image"),
        ("dropped_field", "access_programs"),
        ("dropped_field", "stop"),
    ]


def test_no_client_makes_the_header_of_warnings_long() -> None:
    header = translated(
        {"input": "x", **{f"{n}{'y' * 999}": 1 for n in range(999)}}
    ).report.header()
    assert header.count("dropped_field") == 16
    assert len(header) < 2000


def test_the_best_tokens_are_not_given_to_who_does_not_ask_for_any() -> None:
    assert warnings(top_logprobs=3) == [("dropped_field", "top_logprobs")]
    assert warnings(top_logprobs=0) == []
    assert warnings(top_logprobs=3, include=["message.output_text.logprobs"]) == []


def test_hints_and_unknown_keys_never_go_upstream() -> None:
    hints = {
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "flex",
        "max_tool_calls": 2,
        "truncation": "auto",
        "store": False,
        "client_metadata": {"x": "y"},
        "context_management": [],
        "moderation": {},
        "include": ["web_search_call.action.sources"],
        "tomorrow": True,
    }

    assert sent({"input": "x", **hints}).keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        (
            {"previous_response_id": "resp_1"},
            "previous_response_id",
            "previous_response_not_found",
        ),
        ({"conversation": "conv_1"}, "conversation", None),
        ({"conversation": {"id": "conv_1"}, "previous_response_id": "r"}, "conversation", None),
        ({"background": True}, "background", None),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", None),
        ({"input": []}, "input", None),
        ({"input": None}, "input", None),
        ({"model": None}, "model", None),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_field(
    fields: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent({"input": "x", **fields})

    assert (refused.value.param, refused.value.code) == (param, code)


def test_harmless_values_of_refused_fields_are_accepted() -> None:
    fields = {"background": False, "prompt": None, "conversation": None}

    assert sent({"input": "x", **fields})["messages"] == [user("x")]


def test_the_default_model_stands_in_for_a_missing_one() -> None:
    translation = translate(parse_request(b'{"input": "x"}'), default_model="qwen3.7-max")

    assert translation.chat.model == translation.echo.model == "qwen3.7-max"


def test_instructions_alone_are_enough() -> None:
    assert sent({"instructions": "go on", "input": []})["messages"] == [
        {"role": "system", "content": "go on"}
    ]


def test_the_echo_has_defaults_for_what_was_not_sent() -> None:
    echo = translated({"input": "x"}).echo

    assert (echo.temperature, echo.top_p, echo.store, echo.truncation) == (1, 1, True, "disabled")
    assert (echo.tools, echo.tool_choice, echo.parallel_tool_calls) == ([], "auto", True)
    assert echo.reasoning == {"effort": None, "summary": None}
    assert echo.text == {"format": {"type": "text"}}
    assert echo.metadata == {}


def test_the_echo_repeats_what_was_sent() -> None:
    request = {
        "input": "x",
        "instructions": "be brief",
        "temperature": 0,
        "top_p": 0,
        "store": False,
        "parallel_tool_calls": False,
        "tools": [*TOOLS, {"type": "web_search", "external_web_access": True}],
        "tool_choice": {"type": "function", "name": "f"},
        "reasoning": {"effort": "low", "summary": "auto", "context": "x"},
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
        },
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "max_output_tokens": 7,
    }
    echo = translated(request).echo

    assert (echo.temperature, echo.top_p, echo.store) == (0, 0, False)
    assert echo.parallel_tool_calls is False
    assert echo.tools == request["tools"]
    assert echo.tool_choice == request["tool_choice"]
    assert echo.reasoning == {"effort": "low", "summary": "auto"}
    assert echo.text == request["text"]
    assert (echo.instructions, echo.metadata) == ("be brief", {"a": "b"})
    assert (echo.service_tier, echo.max_output_tokens) == ("flex", 7)


def test_allowed_tools_send_the_subset_and_the_mode() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": TOOLS}
    request = {"input": "x", "tools": [*TOOLS, {"type": "function", "name": "g"}]}
    translation = translated({**request, "tool_choice": choice})

    assert [tool.name for tool in translation.chat.tools] == ["f"]
    assert translation.chat.tool_choice == "required"
    assert translation.echo.tool_choice == choice
    assert not translation.tools.permits("g")


def test_the_estimate_grows_with_the_text_of_the_request() -> None:
    def estimate(**fields: Any) -> int:
        return translated(fields).estimated_input_tokens

    assert estimate(input="word " * 400) == 501
    assert 300 < estimate(input="你好" * 200) < 302
    assert estimate(input="x", tools=TOOLS) > estimate(input="x") == 1


JSON = st.recursive(
    st.sampled_from([None, True, 0, -1, 2.5, "", "x", "auto", "type", "function", "message"]),
    lambda children: (
        st.lists(children, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "name", "text", "id", "tools", "call_id"]),
            children,
            max_size=3,
        )
    ),
    max_leaves=5,
)
KITCHEN_SINK: dict[str, Any] = {
    "model": "m",
    "input": [
        {"role": "developer", "content": "d"},
        user([{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "u"}]),
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "text", "text": "o"}]},
        {"type": "web_search_call", "id": "i"},
        {"type": "custom_tool_call", "call_id": "d", "name": "x", "input": "y"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "z"},
        {"type": "shell_call", "call_id": "e", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "e", "output": [{"stdout": "o", "stderr": ""}]},
        {"type": "apply_patch_call", "call_id": "p", "operation": {"type": "t", "path": "p"}},
        {"type": "apply_patch_call_output", "call_id": "p", "status": "failed"},
        {"type": "tool_search_call", "call_id": "s", "arguments": {"query": "q"}},
        {"type": "tool_search_output", "call_id": "s", "tools": TOOLS},
        {"type": "additional_tools", "role": "developer", "tools": TOOLS},
        {"type": "agent_message", "author": "a", "content": [{"type": "text", "text": "t"}]},
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
    ],
    "tools": [
        *TOOLS,
        {"type": "custom", "name": "x", "format": {"type": "text"}},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "namespace", "name": "n", "tools": TOOLS},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": TOOLS},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    "reasoning": {"effort": "low"},
    "metadata": {"a": "b"},
    "include": ["x"],
}


@given(replacement=JSON, choices=st.lists(st.integers(0, 19), min_size=1, max_size=6))
@settings(max_examples=600, deadline=None)
def test_a_request_with_anything_anywhere_is_translated_or_refused_with_a_field(
    replacement: Any, choices: list[int]
) -> None:
    request: dict[str, Any] = json.loads(json.dumps(KITCHEN_SINK))
    here: Any = request
    for choice in choices:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        parent, key = here, keys[choice % len(keys)]
        here = parent[key]
        if not isinstance(here, dict | list) or not here:
            break
    parent[key] = replacement

    outcome: dict[str, Any] | InvalidRequest
    try:
        outcome = sent(request)
    except InvalidRequest as refused:
        outcome = refused

    if isinstance(outcome, InvalidRequest):
        assert outcome.param is not None
        assert "another value" not in outcome.message
    else:
        assert outcome["messages"]
