from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.compaction import INSTRUCTION
from tests.cases import cases
from tests.chat_checker import check_chat
from tests.translate.sending import (
    assistant,
    call,
    messages,
    output,
    sent,
    thought,
    tool,
    translated,
    user,
)


def test_system_and_developer_messages_become_one_system_message_at_the_start() -> None:
    body = sent(
        {
            "instructions": "one",
            "input": [
                {"role": "developer", "content": "two"},
                user("hi"),
                {
                    "type": "message",
                    "role": "system",
                    "content": [
                        {"type": "input_text", "text": "three"},
                        {"type": "input_text", "text": ""},
                    ],
                },
                assistant("hello"),
                {"role": "developer", "content": "four"},
                user("again"),
            ],
        }
    )

    assert body["messages"] == [
        {"role": "system", "content": "one\n\ntwo\n\nthree\n\nfour"},
        user("hi"),
        {"role": "assistant", "content": "hello"},
        user("again"),
    ]


@pytest.mark.parametrize("arguments", [None, "", " \n"])
def test_missing_arguments_become_an_empty_object(arguments: str | None) -> None:
    found = messages(user("go"), call("c1", arguments=arguments), output("c1"))

    assert found[1]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_names_of_the_history_are_the_names_of_the_table() -> None:
    members = [{"type": "function", "name": "close"}]
    body = sent(
        {
            "tools": [
                {"type": "namespace", "name": "agents", "tools": members},
                {"type": "function", "name": "fs.read"},
            ],
            "input": [
                user("go"),
                call("c1", "close", namespace="agents"),
                call("c2", "fs.read"),
                call("c3", "in valid"),
                output("c1"),
                output("c2"),
                output("c3"),
            ],
        }
    )

    assert [made["function"]["name"] for made in body["messages"][1]["tool_calls"]] == [
        "agents__close",
        "fs_read",
        "in_valid",
    ]


def test_images_of_an_output_follow_the_block_of_outputs_in_one_user_message() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    found = messages(
        user("go"),
        call("c1"),
        call("c2"),
        output("c1", [{"type": "input_text", "text": "a"}, image, {"type": "text", "text": "b"}]),
        output("c2", [image]),
        user("next"),
    )

    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert found[2:] == [
        tool("c1", "ab"),
        tool("c2", "[attached]"),
        user(
            [
                {"type": "text", "text": "Image result of tool call c1:"},
                part,
                {"type": "text", "text": "Image result of tool call c2:"},
                part,
            ]
        ),
        user("next"),
    ]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (thought("short", "long", "ours"), "opened"),
        (thought("short", "long", "foreign"), "long"),
        (thought("short", None, "foreign"), "short"),
        (thought("short"), "short"),
        ({**thought(""), "summary": []}, None),
        ({"type": "reasoning", "encrypted_content": "ours"}, "opened"),
        ({"type": "reasoning", "encrypted_content": "foreign"}, None),
    ],
)
def test_a_thought_is_the_unsealed_one_else_its_content_else_its_summary(
    item: dict[str, Any], expected: str | None
) -> None:
    found = messages(user("go"), item, assistant("so"), unseal={"ours": "opened"}.get)

    assert found[1].get("reasoning_content") == expected


def test_a_thought_that_nothing_follows_is_dropped() -> None:
    assert messages(user("go"), thought("hm"), user("and?"), thought("hm")) == [
        user("go"),
        user("and?"),
    ]


def test_an_assistant_message_without_content_is_dropped() -> None:
    empty = {"role": "assistant", "content": []}

    assert messages(user("go"), assistant(""), empty, user("and?")) == [user("go"), user("and?")]


def test_receipts_of_hosted_tools_are_dropped_with_a_warning_and_texts_merge() -> None:
    translation = translated(
        {
            "input": [
                user("go"),
                assistant("I search"),
                {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}},
                {"type": "mcp_approval_request", "id": "x"},
                assistant("found"),
            ]
        }
    )

    assert translation.report.header() == (
        "dropped_item; web_search_call, dropped_item; mcp_approval_request"
    )
    assert [getattr(message, "content", None) for message in translation.chat.messages[1:]] == [
        "I search\nfound"
    ]


def test_an_item_that_cannot_be_used_is_refused_by_its_type() -> None:
    kind = "something_of_tomorrow"
    with pytest.raises(InvalidRequest, match=f"'{kind}'") as refused:
        messages(user("go"), {"type": kind, "call_id": "c", "encrypted_content": "x"})

    assert refused.value.param == "input[1].type"


def test_a_request_to_compact_is_the_last_item() -> None:
    trigger = {"type": "compaction_trigger"}
    for items in ([trigger, user("go")], [user("go"), trigger, trigger]):
        with pytest.raises(InvalidRequest, match="last item") as refused:
            messages(*items)
        assert refused.value.param == f"input[{items.index(trigger)}]"


def test_an_item_reference_is_refused_as_not_found() -> None:
    with pytest.raises(InvalidRequest, match="'rs_7' not found") as refused:
        messages(user("go"), {"type": "item_reference", "id": "rs_7"})

    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "input[1].id"


def test_images_of_a_freeform_output_follow_as_a_user_message() -> None:
    made = {"type": "custom_tool_call", "call_id": "c1", "name": "exec", "input": "shot()"}
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    parts = [{"type": "input_text", "text": "a"}, image, {"type": "input_text", "text": "b"}]
    found = messages(
        user("go"), made, {"type": "custom_tool_call_output", "call_id": "c1", "output": parts}
    )

    assert found[2] == tool("c1", "ab")
    assert [part["type"] for part in found[3]["content"]] == ["text", "image_url"]


def test_searches_of_openai_are_receipts_but_their_tools_count() -> None:
    found = [{"type": "function", "name": "send"}]
    translation = translated(
        {
            "input": [
                user("go"),
                {"type": "tool_search_call", "execution": "server", "arguments": {}},
                {"type": "tool_search_output", "execution": "server", "tools": found},
            ]
        }
    )

    assert len(translation.chat.messages) == 1
    assert [it.name for it in translation.chat.tools] == ["send"]
    assert translation.report.header() == (
        "dropped_item; tool_search_call, dropped_item; tool_search_output"
    )


def test_a_message_of_an_agent_names_its_author() -> None:
    item = {
        "type": "agent_message",
        "author": "/root/reviewer",
        "recipient": "/root",
        "content": [{"type": "input_text", "text": "Looks good."}],
    }

    assert messages(user("go"), item, {**item, "content": "Ship it."})[1:] == [
        user("Message from /root/reviewer:\nLooks good."),
        user("Message from /root/reviewer:\nShip it."),
    ]


def test_what_only_openai_can_read_of_an_agents_message_is_reported() -> None:
    content = [{"type": "encrypted_content", "encrypted_content": "x"}]
    item = {"type": "agent_message", "author": "a", "recipient": "b", "content": content}
    translation = translated({"input": [user("go"), item]})

    assert len(translation.chat.messages) == 1
    assert translation.report.header() == "dropped_content; encrypted_content"


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary", "context_compaction"])
def test_a_compaction_of_our_own_is_a_summary(kind: str) -> None:
    item = {"type": kind, "encrypted_content": "ours"}

    summary, rest = messages(item, user("on"), unseal_summary={"ours": "It was red."}.get)

    assert summary["role"] == "user"
    assert summary["content"].startswith("Summary of the conversation so far.")
    assert summary["content"].endswith("\n\nIt was red.")
    assert rest == user("on")


@pytest.mark.parametrize("sealed", [{"encrypted_content": "foreign"}, {}])
def test_a_compaction_of_others_is_refused(sealed: dict[str, str]) -> None:
    item = {"type": "compaction", **sealed}

    for unseal_summary in (None, {"ours": "It was red."}.get):
        with pytest.raises(InvalidRequest, match="not made here") as refused:
            messages(user("go"), item, unseal_summary=unseal_summary)
        assert refused.value.param == "input[1].encrypted_content"


TEXT = st.text(min_size=1, max_size=8)
IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png"}
USER = st.one_of(TEXT, st.just([{"type": "input_text", "text": "see"}, IMAGE])).map(user)
RESULT: st.SearchStrategy[Any] = st.one_of(st.text(max_size=8), st.just([IMAGE]), st.just([]))
ARGUMENTS = st.sampled_from([None, "", "{}", '{"a": "\\u00e9"}', '{"a": ', "7", '"x"', "NaN"])


def item(kind: str, **fields: Any) -> Callable[[str], dict[str, Any]]:
    return lambda call_id: {"type": kind, "call_id": call_id, **fields}


SHELL: dict[str, Any] = {"commands": ["ls"], "timeout_ms": None}
PATCH = {"type": "update_file", "path": "a", "diff": "@@"}
FOUND = [{"type": "namespace", "name": "n", "tools": [{"type": "custom", "name": "x.y"}]}]
CALLS = st.one_of(
    st.builds(lambda name, arguments: lambda it: call(it, name, arguments), TEXT, ARGUMENTS),
    st.builds(lambda name, text: item("custom_tool_call", name=name, input=text), TEXT, st.text()),
    st.sampled_from(
        [
            item("custom_tool_call", name="x.y", namespace="n", input="{"),
            item("local_shell_call", action={"type": "exec", "command": ["ls"], "env": {}}),
            item("shell_call", action=SHELL),
            item("apply_patch_call", operation=PATCH),
            item("tool_search_call", execution="client", arguments={"query": "q"}),
        ]
    ),
)
OUTPUTS = st.one_of(
    st.builds(lambda result: lambda it: output(it, result), RESULT),
    st.builds(lambda result: item("custom_tool_call_output", output=result), RESULT),
    st.sampled_from(
        [
            item("local_shell_call_output", output="o"),
            item("shell_call_output", output=[{"stdout": "o", "stderr": "", "outcome": None}]),
            item("apply_patch_call_output", status="failed", output="no"),
            item("tool_search_output", execution="client", tools=FOUND),
        ]
    ),
)


@st.composite
def rounds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What the assistant did in one turn, with its calls answered in any order."""
    said: list[dict[str, Any]] = [
        *map(assistant, draw(st.lists(TEXT, max_size=2))),
        *map(thought, draw(st.lists(TEXT, max_size=2))),
    ]
    ids = [f"c{number}" for number in range(draw(st.integers(0, 3)))]
    calls = [draw(CALLS)(each) for each in ids]
    answers = [draw(OUTPUTS)(each) for each in draw(st.permutations(ids))]
    interrupted: bool = draw(st.booleans())
    if answers and interrupted:
        answers.insert(draw(st.integers(0, len(answers) - 1)), draw(USER))
    return [*draw(st.permutations([*said, *calls])), *answers]


ANYWHERE = st.one_of(
    TEXT.map(lambda text: {"role": "developer", "content": text}),
    st.just({"type": "web_search_call", "id": "ws_1", "status": "completed"}),
    st.just({"type": "additional_tools", "role": "developer", "tools": FOUND}),
    st.just({"type": "configuration_update", "reasoning": {"effort": "low"}}),
    st.just({"type": "tool_search_call", "execution": "server", "arguments": {}}),
)


@cases(300)
@given(
    turns=st.lists(st.one_of(USER.map(lambda item: [item]), rounds()), max_size=6),
    scattered=st.lists(st.tuples(st.integers(0, 40), ANYWHERE), max_size=3),
    provider=st.sampled_from(["portal", "dashscope"]),
    compacts=st.booleans(),
)
def test_no_history_breaks_the_rules_of_a_strict_host(
    turns: list[list[dict[str, Any]]],
    scattered: list[tuple[int, dict[str, Any]]],
    provider: str,
    compacts: bool,
) -> None:
    items = [user("go"), *(item for turn in turns for item in turn)]
    for position, item in scattered:
        items.insert(position, item)
    trigger = [{"type": "compaction_trigger"}] if compacts else []

    body = sent({"input": [*items, *trigger]}, provider=provider)

    check_chat(body, provider)
    assert (body["messages"][-1] == user(INSTRUCTION)) == compacts
    made = [it for it in items if it.get("type", "").endswith("_call")]
    calls = [it["call_id"] for it in made if "call_id" in it]
    assert calls == [
        sent_call["id"]
        for message in body["messages"]
        for sent_call in message.get("tool_calls", ())
    ]
