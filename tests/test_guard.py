import json

import pytest
from mitmproxy.test import tflow

from qwen_mitm.exchange import Broken, FailedAnswer
from qwen_mitm.guard import LAST_RESORT, Guarded
from qwen_mitm.turn import Turn
from tests.event_checker import check_events
from tests.test_turn import CHUNK, SSE, a_turn, sent


class Bug(Exception):
    """Stands for a mistake of ours."""


def break_feed(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(parts: object) -> bytes:
        raise Bug

    monkeypatch.setattr(turn.assembler, "feed", broken)


@pytest.fixture
def guarded() -> Guarded:
    turn = sent(a_turn())
    return Guarded(turn, tflow.tflow())


def events_of(data: bytes) -> list[dict[str, object]]:
    lines = data.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def test_a_bug_in_the_stream_ends_it_with_response_failed(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.head(200, SSE)
    guarded.offer(CHUNK)
    data = guarded.accepted()
    assert isinstance(guarded.inner, Turn)
    break_feed(guarded.inner, monkeypatch)

    data += guarded.feed(CHUNK)

    assert guarded.finished
    assert guarded.feed(CHUNK) == guarded.end() == b""
    events = events_of(data)
    check_events(events)
    assert events[-1]["type"] == "response.failed"


def test_a_bug_before_the_first_event_is_a_failed_answer(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.head(200, SSE)

    def broken(data: bytes) -> bool:
        raise Bug

    monkeypatch.setattr(guarded.inner, "offer", broken)
    verdict = guarded.offer(CHUNK)
    assert isinstance(verdict, FailedAnswer)
    assert verdict.failure.status == 500


def test_even_an_assembler_that_cannot_fail_leaves_a_terminal_event(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise Bug

    monkeypatch.setattr(guarded.inner, "broken", broken)
    monkeypatch.setattr(guarded.inner, "stop", broken)
    assert guarded.broken(Broken("lost", "answer")) == LAST_RESORT
    (event,) = events_of(LAST_RESORT)
    assert event["type"] == "response.failed"
