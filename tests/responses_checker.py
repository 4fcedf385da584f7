"""What every request must obey that goes to a host which speaks Responses itself (qwen.md §2.9)."""

from __future__ import annotations

from typing import Any

_ITEMS = {"message", "function_call", "function_call_output", "reasoning"}
_KEYS = {
    "model",
    "input",
    "store",
    "stream",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "text",
    "reasoning",
    "include",
}


def check_request(body: dict[str, Any]) -> None:
    """Raises an AssertionError that says which rule the request breaks."""
    assert body.keys() <= _KEYS, f"it has {sorted(body.keys() - _KEYS)}"
    assert body["store"] is False, "the host would keep it"
    assert body["input"], "there is no input"
    _check_items(body["input"])
    names = [tool["name"] for tool in body.get("tools", []) if tool["type"] == "function"]
    assert len(names) == len(set(names)), f"two tools are called the same: {names}"
    assert body.get("tools") != [], "tools is empty"
    for tool in body.get("tools", []):
        assert tool["type"] not in ("custom", "namespace", "local_shell", "shell", "apply_patch")
    if "tool_choice" in body:
        assert body["tools"], "there is a tool_choice without tools"
        choice = body["tool_choice"]
        if isinstance(choice, dict) and choice["type"] == "function":
            assert choice["name"] in names, f"{choice} chooses no tool"


def _check_items(items: list[dict[str, Any]]) -> None:
    open_calls: set[str] = set()
    roles = []
    for place, item in enumerate(items):
        kind = item["type"]
        assert kind in _ITEMS, f"input[{place}] is a {kind}"
        assert "qm1." not in str(item), f"input[{place}] is sealed by us"
        if kind == "message":
            roles.append(item["role"])
            assert not open_calls, f"input[{place}] comes before the outputs of {open_calls}"
            assert item["role"] != "system" or place == 0, "a system message is not the first"
            assert item["role"] in ("system", "user", "assistant"), f"a role is {item['role']}"
            part = "output_text" if item["role"] == "assistant" else "input_"
            assert all(it["type"].startswith(part) for it in item["content"]), f"input[{place}]"
        elif kind == "function_call":
            open_calls.add(item["call_id"])
            assert isinstance(item["arguments"], str), f"input[{place}] has no arguments"
        elif kind == "function_call_output":
            open_calls.remove(item["call_id"])
    assert not open_calls, f"no output for {open_calls}"
