import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tools import ToolRoute, ToolTable, offered_tools
from qwen_mitm.wire.responses import parse_request


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, **fields}


def namespace(name: str, *members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "tools": members}


def table_of(*tools: dict[str, Any], report: Report | None = None) -> ToolTable:
    parsed = parse_request(to_json({"tools": tools})).tools or ()
    located = [(f"tools[{index}]", tool) for index, tool in enumerate(parsed)]
    return offered_tools(located, report or Report())


def names(table: ToolTable) -> list[str]:
    return [definition.name for definition in table.definitions]


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
    assert table.flat("function", "agents", "spawn") == "agents__spawn"


def test_members_of_the_implicit_namespace_keep_their_bare_names() -> None:
    table = table_of(namespace("functions", function("exec")))

    assert names(table) == ["exec"]
    assert table.route("exec") == ToolRoute("function", "functions", "exec")
    assert (
        table.flat("function", None, "exec")
        == table.flat("function", "functions", "exec")
        == "exec"
    )


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
    assert table.flat("function", None, "a_b") == "a_b_2"


def test_a_tool_of_the_history_never_takes_the_name_of_an_offered_one() -> None:
    table = table_of(function("a_b"))

    assert table.flat("function", None, "a.b") == "a_b_2"
    assert table.flat("function", "gone", "x") == "gone__x"


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
        "tool_search",
    ],
)
def test_a_tool_that_cannot_be_offered_is_reported(kind: str) -> None:
    report = Report()
    table = table_of({"type": kind, "name": "x"}, function("f"), report=report)

    assert names(table) == ["f"]
    assert report.header() == f"dropped_tool; {kind}"


def test_a_member_that_cannot_be_offered_is_reported() -> None:
    report = Report()
    table = table_of(namespace("n", {"type": "web_search"}, function("f")), report=report)

    assert names(table) == ["n__f"]
    assert report.header() == "dropped_tool; web_search"


def test_an_unknown_tool_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'telepathy'") as refused:
        table_of(function("f"), namespace("n", {"type": "telepathy"}))

    assert refused.value.param == "tools[1].tools[0].type"


CUSTOM = {"type": "custom", "name": "apply_patch"}
BUILT_IN = {"type": "apply_patch"}


def test_tools_of_different_kinds_may_have_one_name() -> None:
    table = table_of(function("apply_patch"), CUSTOM, BUILT_IN)

    assert names(table) == ["apply_patch", "apply_patch_2", "apply_patch_3"]
    assert [table.route(name).kind for name in names(table)] == [
        "function",
        "custom",
        "apply_patch",
    ]
    assert table.flat("custom", None, "apply_patch") == "apply_patch_2"
    assert table.flat("custom", "functions", "apply_patch") == "apply_patch_2"
    assert table.flat("apply_patch", None, "apply_patch") == "apply_patch_3"


def test_freeform_members_of_a_namespace_are_restored_as_such() -> None:
    table = table_of(namespace("n", {"type": "custom", "name": "exec"}, function("exec")))

    assert names(table) == ["n__exec", "n__exec_2"]
    assert table.route("n__exec") == ToolRoute("custom", "n", "exec")
    assert table.route("n__exec_2") == ToolRoute("function", "n", "exec")


@pytest.mark.parametrize("kind", ["local_shell", "shell", "apply_patch"])
def test_a_built_in_tool_has_its_own_name_also_in_a_namespace(kind: str) -> None:
    table = table_of(namespace("n", {"type": kind}), {"type": kind})

    assert names(table) == [kind]
    assert table.route(kind).kind == kind
    assert table.members("n") == [kind]


def test_a_search_that_the_client_does_is_offered() -> None:
    report = Report()
    table = table_of({"type": "tool_search", "execution": "client"}, report=report)

    assert names(table) == ["tool_search"]
    assert report.entries == ()


@pytest.mark.parametrize("execution", [{}, {"execution": None}, {"execution": "server"}])
def test_a_search_that_openai_does_is_dropped_with_a_warning(execution: dict[str, Any]) -> None:
    report = Report()
    table = table_of({"type": "tool_search", **execution}, function("f"), report=report)

    assert names(table) == ["f"]
    assert report.header() == "dropped_tool; tool_search"


@pytest.mark.parametrize("environment", [None, {"type": "local", "skills": []}])
def test_a_local_shell_environment_is_offered(environment: Any) -> None:
    assert names(table_of({"type": "shell", "environment": environment})) == ["shell"]


@pytest.mark.parametrize("kind", ["container_auto", "container_reference"])
def test_a_shell_in_a_container_is_refused(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=kind) as refused:
        table_of(function("f"), {"type": "shell", "environment": {"type": kind}})

    assert refused.value.param == "tools[1].environment.type"


def test_the_same_tool_once_more_is_no_loss() -> None:
    report = Report()
    table = table_of(function("f"), function("f"), CUSTOM, CUSTOM, report=report)

    assert names(table) == ["f", "apply_patch"]
    assert report.entries == ()


KINDS = st.sampled_from(["function", "custom"])
SPACES = st.none() | st.text(min_size=1).filter(lambda name: name != "functions")


@given(st.lists(st.tuples(KINDS, SPACES, st.text(min_size=1)), unique=True))
@settings(max_examples=200, deadline=None)
def test_every_name_is_legal_unique_and_comes_back(
    tools: list[tuple[str, str | None, str]],
) -> None:
    members = [(space, {"type": kind, "name": name}) for kind, space, name in tools]
    declared = [member if space is None else namespace(space, member) for space, member in members]
    table = table_of(*declared)

    flat = names(table)
    assert len(flat) == len(set(flat)) == len(declared)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in flat)
    routes = [table.route(name) for name in flat]
    assert [(route.kind, route.namespace, route.name) for route in routes] == tools
    assert [table.flat(route.kind, route.namespace, route.name) for route in routes] == flat
