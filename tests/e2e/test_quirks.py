"""Every behaviour that the simulator knows, streamed and not, over both HTTP versions."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.simulator.behaviours import BEHAVIOURS
from qwen_mitm.simulator.refusals import NAMES
from tests.e2e.clients import Way, calls_of, checked_events, error_of, final, text_of, thoughts_of
from tests.e2e.proxy import Proxy

TEXT = "You said “hello there”. 你好 — this is the Qwen simulator, and it heard you. 👋"
THOUGHTS = "The user wants an answer. I look at the words and keep it short."
OTHER_THOUGHTS = "First I look at what was asked. Then I weigh the words. Now I know what to say."
TOOLS = [
    {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}
    for name in ("get_weather", "get_time")
]
ASK = 'call:get_weather{"city": "Köln 🌧"} call:get_time{"tz": "CET"}'
CALLS = [("get_weather", {"city": "Köln 🌧"}), ("get_time", {"tz": "CET"})]

#: Behaviours that need an argument, a gate, a limit or the Responses API, or that never end.
ELSEWHERE = {"limit", "gate", "hold", "hang", "hang-after", "paced", "response-failed"}
#: Seconds, where the default is too long for a test.
BRIEFLY = dict.fromkeys(
    ["silent", "silent-head", "heartbeats", "heartbeats-first", "late-head"], "-0.02"
)
REFUSED = {name for name in NAMES if not name.startswith(("html", "empty", "broken", "no-", "200"))}
#: 200, and yet no answer.
NO_ANSWER = set(NAMES) - REFUSED | {"error-first", "drop-first"}
#: The answer breaks off.
CUT = {
    "error-after-text",
    "error-event",
    "drop",
    "unfinished",
    "reset",
    "eof",
    "cut-utf8",
    "error-finish",
}
#: These reset the connection, and the system may throw away what had arrived before.
OVERTAKEN = {"drop", "reset"}
WHOLE = sorted(BEHAVIOURS.keys() - ELSEWHERE - REFUSED - NO_ANSWER - CUT)

TEXTS = {
    "long": " ".join(f"word{n}" for n in range(1000)),
    "refusal": "",
    "text-and-calls": "I look that up. ",
    "think-tags": f"<think>\n{OTHER_THOUGHTS}\n</think>\n\n{TEXT}",
    "wide": "x" * 100_000,
}
CALLED: dict[str, list[tuple[str, Any]]] = {
    "array-arguments": [("get_weather", [1, 2]), ("get_time", [1, 2])],
    "call": [*CALLS, ("invented_tool", {"made_up": True})],
    "empty-arguments": [("get_weather", {}), ("get_time", {})],
    "long": [],
}
#: What the shape of a stream loses before it is sent; a whole answer has it.
CALLED_IN_STREAM: dict[str, list[tuple[str, Any]]] = {
    "legacy-call": CALLS[:1],
    "null-arguments": [("get_weather", {}), ("get_time", {})],
}
#: A whole answer of these never ends, or is no JSON.
NEVER_WHOLE = {"endless-body", "never-ends", "stuck-body", "heartbeats", "heartbeats-first"}


@dataclass(frozen=True)
class Asker:
    http: httpx.Client
    stream: bool

    def __call__(self, behaviour: str, *, calls: bool = False) -> httpx.Response:
        body: dict[str, Any] = {"input": ASK if calls else "hello there", "stream": self.stream}
        if calls:
            body["tools"] = TOOLS
        body["model"] = f"sim-{behaviour}{BRIEFLY.get(behaviour, '')}"
        body["reasoning"] = {"effort": "high"}
        return self.http.post("/responses", json=body)


@pytest.fixture(scope="session", params=["h1", "h2"])
def streamed(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Asker]:
    with Way(proxy).http(http2=request.param == "h2") as http:
        yield Asker(http, stream=True)


@pytest.fixture(scope="session")
def whole(proxy: Proxy) -> Iterator[Asker]:
    with Way(proxy).http() as http:
        yield Asker(http, stream=False)


def check_text(behaviour: str, response: dict[str, Any]) -> None:
    assert response["status"] == "completed"
    assert text_of(response) == TEXTS.get(behaviour, TEXT)
    assert thoughts_of(response) == (OTHER_THOUGHTS if behaviour == "reasoning" else THOUGHTS)
    assert response["usage"]["total_tokens"] > 0


def check_calls(expected: list[tuple[str, Any]], response: dict[str, Any]) -> None:
    assert response["status"] == "completed"
    assert [(name, json.loads(text)) for name, text in calls_of(response)] == expected
    ids = [item["call_id"] for item in response["output"] if item["type"] == "function_call"]
    assert len(set(ids)) == len(expected)
    assert response["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("behaviour", WHOLE)
def test_a_stream_loses_no_text_and_no_thought(streamed: Asker, behaviour: str) -> None:
    check_text(behaviour, final(streamed(behaviour)))


@pytest.mark.parametrize("behaviour", sorted(set(WHOLE) - NEVER_WHOLE))
def test_a_whole_answer_loses_no_text_and_no_thought(whole: Asker, behaviour: str) -> None:
    check_text(behaviour, final(whole(behaviour)))


@pytest.mark.parametrize("behaviour", sorted(set(WHOLE) - NEVER_WHOLE - {"broken-arguments"}))
def test_a_stream_loses_no_call(streamed: Asker, behaviour: str) -> None:
    expected = (CALLED | CALLED_IN_STREAM).get(behaviour, CALLS)
    check_calls(expected, final(streamed(behaviour, calls=True)))


@pytest.mark.parametrize("behaviour", sorted(set(WHOLE) - NEVER_WHOLE - {"broken-arguments"}))
def test_a_whole_answer_loses_no_call(whole: Asker, behaviour: str) -> None:
    check_calls(CALLED.get(behaviour, CALLS), final(whole(behaviour, calls=True)))


def test_arguments_that_are_no_json_are_passed_on_as_the_model_wrote_them(
    streamed: Asker, whole: Asker
) -> None:
    for ask in (streamed, whole):
        response = final(ask("broken-arguments", calls=True))

        assert calls_of(response)[1] == ("get_time", '{"tz": "CET')


@pytest.mark.parametrize("behaviour", sorted(CUT))
@pytest.mark.parametrize("calls", [False, True], ids=["text", "calls"])
def test_a_stream_that_breaks_off_fails_and_keeps_what_came(
    streamed: Asker, behaviour: str, calls: bool
) -> None:
    answer = streamed(behaviour, calls=calls)
    for _ in range(10):
        if answer.status_code == 200 or behaviour not in OVERTAKEN:
            break
        # Nothing of an answer has come, so it is an error of its own.
        assert answer.status_code == 502
        error_of(answer)
        answer = streamed(behaviour, calls=calls)
    events = checked_events(answer)

    response = events[-1]["response"]
    assert events[-1]["type"] == "response.failed"
    assert response["error"]["message"]
    assert behaviour == "error-finish" or TEXT.startswith(text_of(response))


# Behind its third piece a whole answer has nothing left to cut.
@pytest.mark.parametrize("behaviour", sorted(CUT - {"eof"}))
def test_a_whole_answer_that_breaks_off_is_an_error(whole: Asker, behaviour: str) -> None:
    answer = whole(behaviour)

    assert answer.status_code >= 429
    error_of(answer)


@pytest.mark.parametrize("behaviour", sorted(NO_ANSWER))
def test_a_200_without_an_answer_is_an_error(streamed: Asker, whole: Asker, behaviour: str) -> None:
    for ask in (streamed, whole):
        answer = ask(behaviour)

        assert answer.status_code >= 429
        error_of(answer)


@pytest.mark.parametrize("behaviour", sorted(REFUSED))
def test_a_refusal_keeps_its_status(streamed: Asker, whole: Asker, behaviour: str) -> None:
    for ask in (streamed, whole):
        answer = ask(behaviour)

        assert answer.status_code == int(behaviour[:3])
        assert "internal error" not in error_of(answer)["message"] or behaviour == "500"


def test_an_answer_that_is_over_holds_no_connection_to_the_upstream(
    streamed: Asker, simulator: SimulatorProcess
) -> None:
    streamed("never-ends")

    (received,) = simulator.requests(closed=1)
    assert received["outcome"] == "cancelled"


def test_pairs_of_quirks_keep_every_rule(streamed: Asker, whole: Asker) -> None:
    # These reshape what other shapes then do not find.
    apart = NEVER_WHOLE | {"argument-objects", "whole-message", "bytewise", "long", "wide"}
    names = sorted((set(WHOLE) | CUT | NO_ANSWER) - apart)
    chance = random.Random(20261120)
    for _ in range(80):
        pair = "+".join(name + BRIEFLY.get(name, "") for name in chance.sample(names, 2))
        for ask in (streamed, whole):
            answer = ask(pair, calls=chance.random() < 0.5)
            if answer.status_code != 200:
                error_of(answer)
            else:
                assert final(answer)["usage"]["total_tokens"] > 0, pair
