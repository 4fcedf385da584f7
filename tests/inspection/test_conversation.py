from typing import Any

from qwen_mitm.inspection.conversation import FIRST, LAST, Said, conversation, in_words

IMAGE = "data:image/png;base64," + "A" * 4_000
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "shell", "arguments": '{"command":"ls"}'},
}


def test_a_chat_request_reads_as_a_conversation() -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": IMAGE}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,AAAA"}},
            ],
        },
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
    ]
    assert conversation({"messages": messages}) == [
        Said("system", "Be brief."),
        Said(
            "user",
            "Look:\n[image image/png, 3.0 kB]\n[audio wav, 3 bytes]\n[file text/plain, 3 bytes]",
        ),
        Said("assistant", "(thinks)\n  Hm.\n→ calls shell (c1)\n  command: ls"),
        Said("tool, answering c1", "a.py"),
    ]


def test_a_responses_request_reads_as_a_conversation() -> None:
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look:"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "x" * 1_200},
        {
            "type": "function_call",
            "namespace": "mcp",
            "name": "read",
            "call_id": "c1",
            "arguments": '{"path":"a"}',
        },
        {"type": "function_call_output", "call_id": "c1", "output": "text of a"},
        {"type": "custom_tool_call", "name": "apply_patch", "call_id": "c2", "input": "*** Begin"},
        {"type": "compaction_trigger"},
    ]
    assert conversation({"instructions": "Be brief.", "input": items}) == [
        Said("instructions", "Be brief."),
        Said("user", "Look:"),
        Said("user", "[image image/png, 3.0 kB]"),
        Said("assistant, thinking", "Hm."),
        Said("assistant, thinking", "[encrypted, 1.2 kB]"),
        Said("assistant", "→ calls mcp.read (c1)\n  path: a"),
        Said("tool, answering c1", "text of a"),
        Said("assistant", "→ calls apply_patch (c2)\n  *** Begin"),
        Said("compaction_trigger", '{\n  "type": "compaction_trigger"\n}'),
    ]


def test_an_input_that_is_a_text_is_the_users() -> None:
    assert conversation({"input": "hi"}) == [Said("user", "hi")]


def test_bodies_of_any_other_shape_do_not_raise() -> None:
    odd: list[Any] = [
        None,
        [],
        {"messages": [5, {"role": "assistant", "tool_calls": ["x"], "content": 7}]},
        {"input": [None, {"type": 5}, {"content": {"a": 1}}]},
        {"input": None},
    ]
    assert [len(conversation(body)) for body in odd] == [0, 0, 2, 3, 0]


def test_a_long_conversation_keeps_its_beginning_and_its_end() -> None:
    said = [Said("user", f"number {n}") for n in range(500)]
    text = in_words(said)
    assert f"[… {500 - FIRST - LAST} messages left out here; the raw request has them …]" in text
    assert "number 5\n" in text
    assert "number 6\n" not in text
    assert text.endswith("number 499")
