from typing import Any

from qwen_mitm.inspection.mapping import Row, fields, losses, table, tools
from qwen_mitm.inspection.record import NamedTool, Record

CLIENT: dict[str, Any] = {
    "model": "m",
    "input": "hi",
    "temperature": 0.5,
    "top_p": None,
    "max_output_tokens": 5,
    "store": False,
    "tools": [{"type": "function"}, {"type": "web_search"}],
    "unheard": {"of": 1},
}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{}],
    "temperature": 0.5,
    "max_tokens": 5,
    "tools": [{}],
    "enable_thinking": True,
}
RECORD = Record(
    losses=[("dropped_field", "unheard"), ("dropped_tool", "web_search"), ("new_code", "x")]
)


def test_each_field_is_told_what_became_of_it() -> None:
    rows = fields(CLIENT, CHAT, RECORD)
    assert [(row.here.split()[0] if row.here else "", row.there, row.how) for row in rows] == [
        ("model", "model 'm'", "as it is"),
        ("input", "messages [1]", "mapped"),
        ("temperature", "temperature 0.5", "as it is"),
        ("max_output_tokens", "max_tokens 5", "mapped"),
        ("store", "", "the response is kept here, or not; hosts are not asked to"),
        ("tools", "tools [1]", "rewritten"),
        ("unheard", "", "dropped: this host has nothing like it"),
        ("", "enable_thinking true", "added for this host"),
    ]


def test_losses_have_a_reason_and_new_codes_stand_for_themselves() -> None:
    assert list(losses(RECORD)) == [
        Row("web_search", "", "dropped: it runs at OpenAI, and this host has none like it"),
        Row("x", "", "new_code"),
    ]


def test_tools_are_listed_under_both_names() -> None:
    named = [
        NamedTool(flat="mcp__read", kind="function", namespace="mcp", name="read"),
        NamedTool(flat="apply_patch", kind="custom", name="apply_patch"),
    ]
    assert list(tools(named)) == [
        Row("mcp.read", "mcp__read", "renamed"),
        Row("apply_patch", "apply_patch", "a custom tool, as a function"),
    ]


def test_bodies_that_are_no_objects_have_no_rows() -> None:
    assert fields(None, CHAT, RECORD) == fields(CLIENT, [], RECORD) == []


def test_a_table_has_columns() -> None:
    rows = [Row("a", "b", "mapped"), Row("longer", "", "dropped"), Row("x" * 90, "y", "cut")]
    lines = table(rows).splitlines()
    assert lines[0].index("mapped") == lines[1].index("dropped") == lines[2].index("cut")
    assert "…" in lines[2]
    assert "→" not in lines[1]
