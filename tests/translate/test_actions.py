from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.translate.actions import (
    local_shell_action,
    patch_operation,
    search_arguments,
    shell_action,
)
from qwen_mitm.wire.response_object import JsonObject

ALL = (local_shell_action, patch_operation, search_arguments, shell_action)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ('{"query": "mail", "limit": 2}', {"query": "mail", "limit": 2}),
        ('"mail"', {"query": "mail"}),
        ("mail", {"query": "mail"}),
        ("", {}),
        ('{"a": NaN, "b": "\\ud83d"}', {"a": None, "b": "\ufffd"}),
    ],
)
def test_search(arguments: str, meant: JsonObject) -> None:
    assert search_arguments(arguments) == meant


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ('{"command": ["ls", "-l"]}', ["ls", "-l"]),
        ('{"command": "ls -l"}', ["bash", "-lc", "ls -l"]),
        ('{"commands": ["ls", 1]}', ["ls"]),
        ("ls -l", ["bash", "-lc", "ls -l"]),
        ('["ls", "-l"]', ["ls", "-l"]),
        ("{}", []),
        ('{"command": ["rm", "-r', []),
    ],
)
def test_local_shell_command(arguments: str, command: list[str]) -> None:
    assert local_shell_action(arguments) == {"type": "exec", "command": command, "env": {}}


def test_local_shell_options_of_the_right_type_are_kept() -> None:
    given = {"command": ["ls"], "working_directory": "/a", "timeout_ms": 5, "user": "root"}
    expected = {"type": "exec", "env": {}, **given}
    del expected["user"]

    assert local_shell_action(json.dumps(given)) == expected
    assert "timeout_ms" not in local_shell_action('{"command": ["ls"], "timeout_ms": "5"}')


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ('{"commands": ["a", "b"]}', {"commands": ["a", "b"]}),
        ('{"command": "a"}', {"commands": ["a"]}),
        ("a | b", {"commands": ["a | b"]}),
        (
            '{"commands": [], "timeout_ms": 1, "max_output_length": 2}',
            {"commands": [], "timeout_ms": 1, "max_output_length": 2},
        ),
        ('{"commands": ["rm -r', {"commands": []}),
    ],
)
def test_shell_commands(arguments: str, meant: JsonObject) -> None:
    assert shell_action(arguments) == meant


@pytest.mark.parametrize(
    "operation",
    [
        {"type": "create_file", "path": "a", "diff": "+x"},
        {"type": "update_file", "path": "a", "diff": "@@"},
        {"type": "delete_file", "path": "a"},
    ],
)
def test_patch(operation: JsonObject) -> None:
    assert patch_operation(json.dumps(operation)) == operation


@pytest.mark.parametrize("kind", ["create_file", "update_file"])
def test_patch_without_a_diff_has_an_empty_one(kind: str) -> None:
    assert patch_operation(json.dumps({"type": kind, "path": "a"}))["diff"] == ""


@pytest.mark.parametrize(
    "arguments",
    ['{"type": "delete_file"}', '{"type": "remove", "path": "a"}', '{"type": "delete_fi', "x", ""],
)
def test_patch_that_says_too_little_deletes_nothing_and_names_no_file(arguments: str) -> None:
    assert patch_operation(arguments) == {"type": "update_file", "path": "", "diff": arguments}


@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(str)))
def test_any_text_becomes_an_action(arguments: str) -> None:
    for meaning in ALL:
        assert json.loads(json.dumps(meaning(arguments), allow_nan=False)) == meaning(arguments)


def test_deep_nesting_is_no_action() -> None:
    assert shell_action("[" * 100_000) == {"commands": []}
