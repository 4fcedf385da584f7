"""What the upstream gets for each request that a real client sent, word for word.

Long texts and definitions of tools are there as their beginning and their digest; ``--update``
writes what the code does now.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.chat_checker import check_chat
from tests.translate.sending import sent, translated
from tests.translate.test_request import ACCEPTED, capture

GOLDEN = Path(__file__).parents[1] / "fixtures" / "rewritten"
DEFINITIONS = GOLDEN / "definitions.json"
PROVIDERS = ("dashscope", "portal", "vllm")
LONGEST = 160


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shortened(value: Any) -> Any:
    match value:
        case str() if len(value) > LONGEST:
            return f"{value[:80]} [... {len(value)} characters, {digest(value)}]"
        case list():
            return [shortened(element) for element in value]
        case dict():
            return {key: shortened(element) for key, element in value.items()}
        case _:
            return value


def named(function: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The name of a definition, under which it is in the file of definitions."""
    name = f"{function['name']} {digest(json.dumps(function))}"
    definitions[name] = shortened(function)
    return name


def differences(body: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """The fields that are other than the first provider's; null is for those that are not there.
    Of the messages those that are other, by their place."""
    assert len(body["messages"]) >= len(first["messages"])
    messages = {
        str(place): message
        for place, message in enumerate(body["messages"])
        if [message] != first["messages"][place : place + 1]
    }
    other = {key: body.get(key) for key in sorted(body | first) if body.get(key) != first.get(key)}
    return other | ({"messages": messages} if messages else {})


def rewritten(name: str, number: int, definitions: dict[str, Any]) -> dict[str, Any]:
    """The warnings, the first provider's request, and of the others' what differs."""
    request = capture(name, number)
    found: dict[str, Any] = {"x-bridge-warnings": translated(request).report.header()}
    for provider in PROVIDERS:
        body = sent(request, provider=provider, stream=request.get("stream", False))
        check_chat(body, provider)
        if "tools" in body:
            body["tools"] = [named(tool["function"], definitions) for tool in body["tools"]]
        body = shortened(body)
        found[provider] = differences(body, found[PROVIDERS[0]]) if len(found) > 1 else body
    return found


@pytest.mark.parametrize(("name", "number"), ACCEPTED)
def test_a_recorded_request_is_rewritten_as_it_was(
    name: str, number: int, pytestconfig: pytest.Config
) -> None:
    path = GOLDEN / f"{name}-{number}.json"
    known = json.loads(DEFINITIONS.read_text("utf-8")) if DEFINITIONS.exists() else {}
    definitions: dict[str, Any] = {}
    found = rewritten(name, number, definitions)
    if pytestconfig.getoption("--update"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        known |= definitions
        DEFINITIONS.write_text(
            json.dumps(known, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        )

    assert found == json.loads(path.read_text("utf-8"))
    assert definitions.items() <= known.items()


def test_every_golden_file_is_of_a_recorded_request() -> None:
    files = {path.stem for path in GOLDEN.glob("*.json")} - {DEFINITIONS.stem}

    assert files == {f"{name}-{number}" for name, number in ACCEPTED}
