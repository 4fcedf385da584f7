import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tools import ToolRoute, ToolTable, chosen_tool, offered_tools
from qwen_mitm.wire.chat_request import NamedFunction
from qwen_mitm.wire.responses import parse_request


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, **fields}


def namespace(name: str, *members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "tools": members}


def table_of(*tools: dict[str, Any], report: Report | None = None) -> ToolTable:
    parsed = parse_request(to_json({"tools": tools})).tools or ()
    return offered_tools(parsed, report or Report())


def names(table: ToolTable) -> list[str]:
    return [definition.name for definition in table.definitions]


def choose(table: ToolTable, choice: Any, report: Report | None = None) -> Any:
    parsed = parse_request(to_json({"tool_choice": choice})).tool_choice
    return chosen_tool(parsed, table, report or Report())


def test_a_function_keeps_its_name_description_and_schema() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": [1, None]}}, "$defs": {}}
    table = table_of(function("run", description="Runs.", parameters=schema, strict=True))

    (definition,) = table.definitions
    assert (definition.name, definition.description) == ("run", "Runs.")
    assert (definition.parameters, definition.strict) == (schema, True)
    assert table.route("run") == ToolRoute("function", None, "run")


@pytest.mark.parametrize("fields", [{}, {"parameters": None}, {"parameters": {}}])
def test_a_function_without_parameters_gets_an_empty_schema(fields: dict[str, Any]) -> None:
    (definition,) = table_of(function("now", **fields)).definitions

    assert definition.parameters == {"type": "object", "properties": {}}


def test_members_of_a_namespace_are_flattened_and_restored() -> None:
    table = table_of(namespace("agents", function("close"), function("spawn")), function("close"))

    assert names(table) == ["agents__close", "agents__spawn", "close"]
    assert table.route("agents__close") == ToolRoute("function", "agents", "close")
    assert table.route("close") == ToolRoute("function", None, "close")
    assert table.flat("agents", "spawn") == "agents__spawn"


def test_members_of_the_implicit_namespace_keep_their_bare_names() -> None:
    table = table_of(namespace("functions", function("exec")))

    assert names(table) == ["exec"]
    assert table.route("exec") == ToolRoute("function", "functions", "exec")
    assert table.flat(None, "exec") == table.flat("functions", "exec") == "exec"


def test_illegal_characters_are_replaced_and_restored() -> None:
    table = table_of(function("fs.read file/ü"))

    assert names(table) == ["fs_read_file__"]
    assert table.route("fs_read_file__").name == "fs.read file/ü"


def test_long_names_are_shortened_and_stay_apart() -> None:
    first, second = "a" * 80 + "1", "a" * 80 + "2"
    table = table_of(function(first), function(second))

    assert [len(name) for name in names(table)] == [64, 64]
    assert [table.route(name).name for name in names(table)] == [first, second]


def test_names_that_would_collide_get_a_suffix() -> None:
    table = table_of(function("a.b"), function("a_b"), function("a/b"))

    assert names(table) == ["a_b", "a_b_2", "a_b_3"]
    assert [table.route(name).name for name in names(table)] == ["a.b", "a_b", "a/b"]
    assert table.flat(None, "a_b") == "a_b_2"


def test_a_tool_of_the_history_never_takes_the_name_of_an_offered_one() -> None:
    table = table_of(function("a_b"))

    assert table.flat(None, "a.b") == "a_b_2"
    assert table.flat("gone", "x") == "gone__x"


def test_a_name_that_the_model_made_up_is_a_plain_function() -> None:
    assert ToolTable().route("made_up") == ToolRoute("function", None, "made_up")


def test_a_second_tool_of_the_same_name_is_reported() -> None:
    report = Report()
    table = table_of(function("f", description="1"), function("f", description="2"), report=report)

    assert [definition.description for definition in table.definitions] == ["1"]
    assert report.entries == (("duplicate_tool", "f"),)


@pytest.mark.parametrize(
    "kind",
    [
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "computer_use_preview",
        "programmatic_tool_calling",
        "custom",
        "tool_search",
        "local_shell",
        "shell",
        "apply_patch",
    ],
)
def test_a_tool_that_cannot_be_offered_is_reported(kind: str) -> None:
    report = Report()
    table = table_of({"type": kind, "name": "x"}, function("f"), report=report)

    assert names(table) == ["f"]
    assert report.header() == f"dropped_tool; {kind}"


def test_a_member_that_cannot_be_offered_is_reported() -> None:
    report = Report()
    table = table_of(namespace("n", {"type": "custom", "name": "x"}, function("f")), report=report)

    assert names(table) == ["n__f"]
    assert report.header() == "dropped_tool; custom"


def test_an_unknown_tool_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'telepathy'") as refused:
        table_of(function("f"), namespace("n", {"type": "telepathy"}))

    assert refused.value.param == "tools[1].tools[0].type"


@given(st.lists(st.tuples(st.none() | st.text(min_size=1), st.text(min_size=1)), unique=True))
@settings(max_examples=200, deadline=None)
def test_every_name_is_legal_unique_and_comes_back(tools: list[tuple[str | None, str]]) -> None:
    declared = [
        function(name) if space is None else namespace(space, function(name))
        for space, name in tools
        if space != "functions"
    ]
    table = table_of(*declared)

    flat = names(table)
    assert len(flat) == len(set(flat)) == len(declared)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in flat)
    routes = [table.route(name) for name in flat]
    assert [(route.namespace, route.name) for route in routes] == [
        pair for pair in tools if pair[0] != "functions"
    ]
    assert [table.flat(route.namespace, route.name) for route in routes] == flat


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_a_mode_stays_as_it_is(choice: str) -> None:
    assert choose(table_of(function("f")), choice) == choice


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_without_tools_there_is_no_choice(choice: str | None) -> None:
    assert choose(table_of({"type": "web_search"}), choice) is None


def test_required_without_a_usable_tool_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'required'") as refused:
        choose(table_of({"type": "web_search"}), "required")

    assert refused.value.param == "tool_choice"


def test_a_named_function_is_chosen_by_its_flat_name() -> None:
    table = table_of(function("a.b"), namespace("n", function("f")))

    assert choose(table, {"type": "function", "name": "a.b"}) == NamedFunction("a_b")
    choice = {"type": "function", "name": "f", "namespace": "n"}
    assert choose(table, choice) == NamedFunction("n__f")


@pytest.mark.parametrize("kind", ["function", "custom"])
def test_a_choice_of_a_tool_that_is_not_there_is_refused_in_openais_words(kind: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        choose(table_of(function("g")), {"type": kind, "name": "f"})

    assert refused.value.message == "Tool choice 'f' not found in 'tools' parameter."
    assert refused.value.param == "tool_choice"


def test_a_function_cannot_be_chosen_as_a_custom_tool() -> None:
    with pytest.raises(InvalidRequest, match="not found"):
        choose(table_of(function("f")), {"type": "custom", "name": "f"})


@pytest.mark.parametrize("kind", ["web_search", "mcp", "apply_patch", "shell"])
def test_a_tool_that_cannot_be_offered_cannot_be_forced(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{kind}'"):
        choose(table_of(function("f"), {"type": kind}), {"type": kind})


def test_allowed_tools_narrows_the_definitions_and_the_calls() -> None:
    table = table_of(function("f"), function("g"), namespace("n", function("h"), function("i")))
    allowed = [
        {"type": "function", "name": "g"},
        {"type": "namespace", "name": "n"},
        {"type": "web_search"},
    ]
    report = Report()
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}

    assert choose(table, choice, report) == "required"
    assert names(table) == ["g", "n__h", "n__i"]
    assert [table.permits(name) for name in ("f", "g", "n__h", "made_up")] == [
        False,
        True,
        True,
        False,
    ]
    assert report.header() == "dropped_tool; web_search"


def test_a_table_without_a_subset_permits_every_call() -> None:
    assert table_of(function("f")).permits("made_up")


def test_an_allowed_tool_that_is_not_there_is_refused() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [function("f"), function("x")]}

    with pytest.raises(InvalidRequest, match="'x' not found") as refused:
        choose(table_of(function("f")), choice)

    assert refused.value.param == "tool_choice.tools[1]"


def test_an_allowed_function_without_a_name_is_refused() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]}

    with pytest.raises(InvalidRequest) as refused:
        choose(table_of(function("f")), choice)

    assert refused.value.param == "tool_choice.tools[0].name"


def test_required_of_an_empty_subset_is_refused() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}

    with pytest.raises(InvalidRequest, match="'required'"):
        choose(table_of(function("f")), choice)
