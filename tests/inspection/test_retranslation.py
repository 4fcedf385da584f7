import json

import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.inspection.retranslation import Setting, retranslated, seal, unseal
from tests.event_checker import check_events
from tests.inspection.turns import UPSTREAM, body
from tests.translate.answers import event

PLAN = Setting(provider="coding-plan")


def test_a_recorded_turn_is_translated_and_always_the_same() -> None:
    first = retranslated(body(), b"".join(UPSTREAM), PLAN)
    assert first == retranslated(body(), b"".join(UPSTREAM), PLAN)
    check_events(first.events)
    assert first.body["stream"] is True
    assert first.warnings == "dropped_tool; web_search"
    assert "The capital is Paris." in json.dumps(first.events[-1])


def test_an_answer_that_begins_with_an_error_fails() -> None:
    found = retranslated(body(), event({"error": {"message": "no"}}), Setting())
    check_events(found.events)
    assert found.events[-1]["type"] == "response.failed"


def test_an_answer_that_says_nothing_is_an_answer() -> None:
    check_events(retranslated(body(), b"", Setting()).events)


def test_thoughts_are_sealed_in_the_open() -> None:
    request = body(include=["reasoning.encrypted_content"])
    sealing = Setting(provider="coding-plan", seals=True)
    found = retranslated(request, b"".join(UPSTREAM), sealing)
    assert seal("I look it up.") in json.dumps(found.events)
    assert unseal(seal("I look it up.")) == "I look it up."
    assert unseal("another's") is None


def test_a_request_that_is_refused_raises() -> None:
    with pytest.raises(InvalidRequest):
        retranslated(body(background=True), b"", Setting())


def test_a_host_that_speaks_responses_gets_responses() -> None:
    found = retranslated(
        body(model="qwen3-max"), b"", Setting(provider="dashscope", form="/responses")
    )
    assert "input" in found.body
