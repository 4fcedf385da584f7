"""What the demo tells of each turn: the answer as it arrives, then what the request became."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field, JsonValue
from rich.console import Console
from rich.text import Text

from qwen_mitm.simulator import SimulatorProcess

from .children import ACCOUNT_KEY, BASE_URL, CLIENT_KEY, DemoFailure

_CUT_AT = 120
_WIDEST_PROSE = 100
_LABEL_WIDTH = 16
_DELTAS = ("response.output_text.delta", "response.function_call_arguments.delta")
_THOUGHT_DELTAS = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_VERBS = {"reasoning": "thinks", "message": "says", "function_call": "calls"}


@dataclass(frozen=True, slots=True)
class Scene:
    title: str
    meaning: str
    pace: str
    """The simulator's behaviour: slow enough to be watched."""
    items: tuple[str, ...]
    """The types of the items that the answer must have."""


TURNS = (
    Scene(
        "A text, streamed",
        "The instructions became the system message. Each chunk of the upstream became an event "
        "at once.",
        "paced-40hz",
        ("message",),
    ),
    Scene(
        "A thought, then the answer",
        "The reasoning effort was put in the upstream's words. What it thought came back as a "
        "reasoning item with a summary, which clients show.",
        "paced-40hz",
        ("reasoning", "message"),
    ),
    Scene(
        "A tool call",
        "The tool's definition was nested as Chat wants it. The chunks of the call became one "
        "function_call item.",
        "paced-40hz",
        ("function_call",),
    ),
    Scene(
        "The tool's result",
        "function_call and function_call_output became an assistant message with tool_calls and a "
        "tool message.",
        "paced-40hz",
        ("message",),
    ),
)


class _Item(BaseModel):
    type: str
    name: str = ""


class _Usage(BaseModel):
    input_tokens: int
    output_tokens: int


class _Response(BaseModel):
    output: list[_Item]
    usage: _Usage | None = None


class _Line(BaseModel):
    """What demo_client.py prints: a request or an event."""

    type: str
    delta: str = ""
    item: _Item | None = None
    response: _Response | None = None
    request: dict[str, JsonValue] = {}


class _Received(BaseModel):
    """A request as the simulator got it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: str
    document: dict[str, JsonValue] | None = Field(alias="json")

    def header(self, wanted: str) -> str:
        return next((value for name, value in self.headers if name.lower() == wanted), "")


class Narrator:
    """Follows the client's lines; one scene for each request."""

    def __init__(self, console: Console, simulator: SimulatorProcess) -> None:
        self._console = console
        self._simulator = simulator
        self._request: Mapping[str, JsonValue] = {}
        self._events: Counter[str] = Counter()
        self._begun = 0
        self.finished = 0

    def hear(self, written: str) -> None:
        """One line of the client's.

        Raises:
            DemoFailure: what came back, or what went upstream, is not what it should be.
        """
        line = _Line.model_validate_json(written)
        if line.type == "request":
            self._begin(line.request)
            return
        self._events[line.type] += 1
        match line.type:
            case "response.output_item.added" if line.item:
                verb = _VERBS.get(line.item.type, line.item.type)
                self._write(f"{verb:>8}  {line.item.name}{' ' if line.item.name else ''}", "bold")
            case "response.output_item.done":
                self._write("\n")
            case "response.completed" if line.response:
                self._finish(line.response)
            case kind if kind in _DELTAS:
                self._write(line.delta)
            case kind if kind in _THOUGHT_DELTAS:
                self._write(line.delta, "dim")

    def _begin(self, request: Mapping[str, JsonValue]) -> None:
        self._request = request
        self._events.clear()
        scene = TURNS[self._begun]
        self._begun += 1
        self._console.print()
        self._console.rule(Text(f"{self._begun}. {scene.title}", "bold"), align="left")
        self._console.print()

    def _finish(self, response: _Response) -> None:
        scene = TURNS[self._begun - 1]
        items = tuple(item.type for item in response.output)
        if items != scene.items:
            raise DemoFailure(f"the answer has the items {items}, not {scene.items}.")
        if response.usage is None:
            raise DemoFailure("the answer has no usage.")
        received = self._received()
        self._console.print()
        self._tell("client sent", f"POST {BASE_URL}/responses", {**self._request, "stream": True})
        address = f"{self._simulator.url}{received.path}"
        self._tell("went upstream", f"{received.method} {address}", received.document or {})
        self._tell("with", f"authorization: {received.header('authorization')} (the account's)")
        self._tell("came back", _counted(self._events))
        usage = response.usage
        self._tell("usage", f"{usage.input_tokens} tokens in, {usage.output_tokens} out")
        self._tell("so", scene.meaning)
        self.finished += 1

    def _received(self) -> _Received:
        listed = self._simulator.requests(received=self._begun, closed=self._begun)
        received = _Received.model_validate(listed[-1])
        if received.path != "/v1/chat/completions" or not received.document:
            raise DemoFailure(f"{received.method} {received.path} went upstream, no Chat request.")
        if received.header("authorization") != f"Bearer {ACCOUNT_KEY}":
            raise DemoFailure("the request went upstream without the account's key.")
        if CLIENT_KEY in received.model_dump_json():
            raise DemoFailure("the client's own key went upstream.")
        return received

    def _tell(self, label: str, what: str, body: Mapping[str, JsonValue] | None = None) -> None:
        width = min(self._console.width, _WIDEST_PROSE) - _LABEL_WIDTH
        first, *others = textwrap.wrap(what, max(width, _LABEL_WIDTH), break_on_hyphens=False)
        self._console.print(Text.assemble((f"{label:<{_LABEL_WIDTH}}", "bold"), first))
        for line in others:
            self._console.print(f"{'':{_LABEL_WIDTH}}{line}", markup=False)
        for key, value in (body or {}).items():
            if key in ("messages", "input", "tools") and isinstance(value, list):
                self._detail(f"{key}:")
                for element in value:
                    self._detail(f"  {_compact(element)}")
            else:
                self._detail(f"{key}: {_compact(value)}")

    def _detail(self, text: str) -> None:
        cut = text if len(text) <= _CUT_AT else f"{text[:_CUT_AT]}…"
        self._console.print(Text(f"{'':{_LABEL_WIDTH}}{cut}", "dim"))

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), end="")


def _compact(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def _counted(events: Counter[str]) -> str:
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in events.items())
