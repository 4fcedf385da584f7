"""Turns as the proxy drives them, with a clock that the test sets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from qwen_mitm.exchange import Outcome, Refused, Send
from qwen_mitm.headers import CREDENTIALS
from qwen_mitm.inspection.pages import Turn as Page
from qwen_mitm.inspection.record import Record, record_of
from qwen_mitm.intake import Arrival, Surroundings, begin
from qwen_mitm.providers import Dialect, profile_for
from qwen_mitm.recent_conversations import RecentConversations
from qwen_mitm.seal import Seal
from qwen_mitm.settings import Settings
from qwen_mitm.translate.demands import Demands
from qwen_mitm.turn import Turn
from tests.stored_turns import Nothing
from tests.translate.answers import DONE, call, numbered_ids, text, thought, usage

KEY = "fake-account-key-123"
PLAN = "https://coding-intl.dashscope.aliyuncs.com/v1"
UPSTREAM = [
    thought("I look it up."),
    text("The capital "),
    text("is Paris."),
    call('{"city":"Paris"}', index=0, id="c9", name="get_weather"),
    text("", "tool_calls"),
    usage(41_234, 812),
    DONE,
]
TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object"}},
    {"type": "web_search"},
    {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "read.file"}]},
]


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def body(**fields: Any) -> bytes:
    said = {"model": "qwen3-coder-plus", "input": "Where is it?", "stream": True, "tools": TOOLS}
    return json.dumps(said | fields).encode()


def a_turn(clock: Clock, content: bytes = b"") -> Turn:
    arrival = Arrival("POST", "/v1/responses", ((b"host", b"portal.qwen.ai"),))
    assert not {name for name, _ in arrival.fields} & CREDENTIALS
    around = Surroundings(
        settings=Settings(),
        clock=clock,
        wall_clock=lambda: 1_760_000_000.0,
        new_id=numbered_ids(),
        noise="x".__mul__,
        seal=Seal(bytes(32)),
        store=Nothing(),
        recent=RecentConversations(),
    )
    turn = begin(arrival, content or body(), _plan, around)
    assert isinstance(turn, Turn)
    return turn


def _plan(model: str, demands: Demands) -> Dialect:
    return Dialect(profile_for(PLAN))


def send(turn: Turn, account: str) -> Send:
    request = turn.request("/v1", _plan("", Demands()))
    bearer = (b"authorization", f"Bearer {KEY}".encode())
    sent = Send(account, "https", "plan.test", 443, request.target, (bearer,), request.body)
    turn.sent(sent)
    return sent


def fails(turn: Turn, outcome: Outcome) -> None:
    turn.outcome = outcome
    turn.note_outcome()
    turn.outcome = None


def limited() -> Refused:
    said = json.dumps({"error": {"message": f"slow down, {KEY}"}}).encode()
    return Refused(429, {"content-type": "application/json"}, said)


def answers(turn: Turn, clock: Clock, pieces: list[bytes] | None = None) -> bytes:
    """The client's answer; each piece of the upstream's takes a second."""
    first, *rest = pieces or UPSTREAM
    assert turn.head(200, ((b"content-type", b"text/event-stream"),)) == "offer"
    assert turn.offer(first)
    turn.open()
    said = turn.accepted()
    for piece in rest:
        clock.now += 1.0
        said += turn.feed(piece)
    return said + turn.end()


def a_whole_turn(content: bytes = b"") -> tuple[Turn, bytes]:
    """One that was refused by one account and answered by another, and its answer."""
    clock = Clock()
    turn = a_turn(clock, content)
    send(turn, "work")
    turn.head(429, ())
    clock.now += 0.25
    fails(turn, limited())
    send(turn, "home")
    clock.now += 0.17
    return turn, answers(turn, clock)


def page_of(turn: Turn, content: bytes, record: Record | None = None) -> Page:
    return Page(record or record_of(turn), "the line", content, turn.said_upstream())


def renamed(record: Record, **changes: Any) -> Record:
    return record.model_copy(update=changes)
