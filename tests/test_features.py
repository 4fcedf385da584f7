"""The table of features in docs/requests.md: an example of each goes through the translation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.errors import InvalidRequest
from tests.event_checker import Event, events_of
from tests.test_turn import SSE, sent
from tests.translate.answers import DONE, text, thought
from tests.translate.sending import user
from tests.translate.test_whole_turns import the_turn

ROOT = Path(__file__).parents[1]
EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests" / "fixtures" / "features.json").read_text("utf-8")
)
BASE: dict[str, Any] = {"model": "qwen3.7-plus", "input": [user("Hello")]}
PIECES = (thought("Hm."), text("Hi.", "stop") + DONE)


def rows() -> list[tuple[str, str]]:
    """Feature and outcome of each row of the table."""
    document = (ROOT / "docs" / "requests.md").read_text("utf-8")
    section = document.partition("\n## What becomes of a request\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (\w+) \| ?.*\|$", section, re.MULTILINE)
    return [row for row in found if row[0] != "feature"]


@dataclass(frozen=True)
class Seen:
    """What the host was sent, and what the client was told."""

    chat: dict[str, Any]
    warnings: str
    response: Event
    deltas: list[Event]


def seen(changes: dict[str, Any], provider: str) -> Seen:
    body = {key: value for key, value in (BASE | changes).items() if value is not None}
    turn, chat = the_turn(body, provider)
    sent(turn).head(200, SSE)
    deltas: list[Event] = []
    if turn.streams:
        assert turn.offer(PIECES[0]) is True
        answer = turn.open()
        events = events_of(turn.accepted() + turn.feed(PIECES[1]) + turn.end())
        deltas = [event for event in events if event["type"].endswith(".delta")]
        response = events[-1]["response"]
    else:
        assert [turn.offer(piece) for piece in PIECES] == [False, False]
        assert turn.offer_end() is True
        answer = turn.open()
        response = json.loads(answer.body)
    warnings = dict(answer.fields).get(b"x-bridge-warnings", b"").decode()
    return Seen(chat, warnings, response, deltas)


def is_told(example: dict[str, Any], with_it: Seen, without: Seen) -> bool:
    """Whether the answer shows what the example says of it."""
    told = []
    if "answer" in example:
        told.append(example["answer"].items() <= with_it.response.items())
    if "thought" in example:
        thoughts = [with_it.response["output"][0], without.response["output"][0]]
        told.append([example["thought"] in it for it in thoughts] == [True, False])
    if "delta" in example:
        found = [{example["delta"] in it for it in s.deltas} for s in (with_it, without)]
        told.append(found == [{True}, {False}])
    if "item" in example:
        told.append([it["type"] for it in with_it.response["output"]] == [example["item"]])
    return bool(told) and all(told)


@pytest.mark.parametrize(("feature", "outcome"), rows())
def test_a_row_of_the_features_table_is_true(feature: str, outcome: str) -> None:
    example = EXAMPLES[feature]
    if "shown" in example:
        path, _, test = example["shown"].partition("::")
        assert f"def {test}(" in (ROOT / path).read_text("utf-8")
        return
    provider = example.get("provider", "dashscope")
    if outcome == "refused":
        with pytest.raises(InvalidRequest) as refused:
            the_turn(BASE | example["request"], provider)
        assert (refused.value.status, refused.value.param) == (400, example["param"])
        return
    with_it = seen(example["request"], provider)
    without = seen(example.get("without", {}), provider)
    assert without.warnings == ""
    upstream: dict[str, Any] = example.get("upstream", {})
    match outcome:
        case "mapped":
            assert with_it.warnings == ""
            assert with_it.chat != without.chat
            assert upstream.items() <= with_it.chat.items()
            assert upstream or is_told(example, with_it, without)
        case "carried":
            assert with_it.warnings == ""
            assert with_it.chat == without.chat
            assert is_told(example, with_it, without)
        case "ignored":
            assert with_it == without
        case "dropped":
            assert with_it.warnings == example["warning"]
            assert with_it.chat == without.chat
        case "added":
            assert with_it.warnings == example["warning"]
            assert upstream
            assert upstream.items() <= with_it.chat.items()
        case _:
            pytest.fail(f"{outcome} is no outcome")


def test_every_example_has_its_row() -> None:
    assert [feature for feature, _ in rows()] == list(EXAMPLES)
