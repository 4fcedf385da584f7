from typing import Any

import pytest
from pydantic_core import to_json

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.translate.report import Report
from qwen_mitm.translate.tool_choice import chosen_tool
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat_request import NamedFunction
from qwen_mitm.wire.responses import parse_request
from tests.translate.test_tools import function, names, namespace, table_of

CUSTOM = {"type": "custom", "name": "c"}
SEARCH = {"type": "tool_search", "execution": "client"}


def choose(table: ToolTable, choice: Any, report: Report | None = None) -> Any:
    parsed = parse_request(to_json({"tool_choice": choice})).tool_choice
    return chosen_tool(parsed, table, report or Report())


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


def test_a_freeform_tool_is_chosen_as_such_alone() -> None:
    table = table_of({"type": "custom", "name": "exec"}, namespace("n", {**CUSTOM, "name": "x.y"}))

    assert choose(table, {"type": "custom", "name": "exec"}) == NamedFunction("exec")
    choice = {"type": "custom", "name": "x.y", "namespace": "n"}
    assert choose(table, choice) == NamedFunction("n__x_y")
    with pytest.raises(InvalidRequest, match="not found"):
        choose(table, {"type": "function", "name": "exec"})


@pytest.mark.parametrize("kind", ["local_shell", "shell", "apply_patch"])
def test_a_built_in_tool_is_chosen_by_its_type(kind: str) -> None:
    table = table_of(function(kind), {"type": kind})

    assert choose(table, {"type": kind}) == NamedFunction(f"{kind}_2")
    with pytest.raises(InvalidRequest, match=f"'{kind}' not found"):
        choose(table_of(function(kind)), {"type": kind})


def test_a_search_can_be_forced_if_the_client_does_it() -> None:
    assert choose(table_of(SEARCH), {"type": "tool_search"}) == NamedFunction("tool_search")
    with pytest.raises(InvalidRequest, match="cannot be forced"):
        choose(table_of(function("f"), {"type": "tool_search"}), {"type": "tool_search"})


def test_allowed_tools_may_be_of_every_kind() -> None:
    tools = [function("f"), CUSTOM, {"type": "shell"}, {"type": "apply_patch"}, SEARCH]
    table = table_of(*tools, {"type": "local_shell"}, {**CUSTOM, "name": "d"})
    allowed = [CUSTOM, {"type": "shell"}, {"type": "tool_search"}]

    assert choose(table, {"type": "allowed_tools", "mode": "auto", "tools": allowed}) == "auto"
    assert names(table) == ["c", "shell", "tool_search"]
    assert not table.permits("apply_patch")


def test_an_allowed_tool_of_another_kind_is_refused() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "f"}]}

    with pytest.raises(InvalidRequest, match="'f' not found"):
        choose(table_of(function("f")), choice)


@pytest.mark.parametrize("kind", ["web_search", "mcp", "computer_use_preview"])
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
