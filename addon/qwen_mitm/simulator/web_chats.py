"""The chats of chat.qwen.ai: trees of messages, and a model that knows its own branch alone."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .journal import ReceivedRequest

_BLOCK = re.compile(
    r"<((conversation|tools|instructions|tool_response)(?:_\d+)?)(?: [^>]*)?>\n(.*?)\n</\1>",
    re.DOTALL,
)
_TOOLS = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)
_NAME = re.compile(r'"name":\s*"([\w-]+)"')
_WISH = re.compile(r"^call ([\w-]+) (\{.*\})$", re.MULTILINE)
_FACT = re.compile(r"my favourite (\w+) is (\w+)", re.IGNORECASE)
_QUESTION = re.compile(r"my favourite (\w+)\?", re.IGNORECASE)
_SAY = re.compile(r"^say (.+)$", re.MULTILINE)


@dataclass(slots=True)
class Turn:
    """A message and its answer. The next message names ``id`` as its parent."""

    id: str
    parent_id: str | None
    content: str
    answer: str
    request: ReceivedRequest


@dataclass(slots=True)
class Chat:
    id: str
    account: str
    title: str
    mode: str
    turns: dict[str, Turn] = field(default_factory=dict)
    overlaps: int = 0
    """Messages that came while another one was being answered."""

    def branch(self, parent_id: str | None) -> Iterator[Turn]:
        """What was said before a message with this parent, the newest first."""
        while parent_id is not None:
            turn = self.turns[parent_id]
            yield turn
            parent_id = turn.parent_id

    def add(self, parent_id: str | None, content: str, request: ReceivedRequest) -> Turn:
        """A message with the answer that the model gives to it; KeyError without its parent."""
        earlier = [text for t in self.branch(parent_id) for text in (t.answer, t.content)]
        turn = Turn(
            str(uuid.uuid4()), parent_id, content, reply([*reversed(earlier)], content), request
        )
        self.overlaps += any(t.request.outcome == "open" for t in self.turns.values())
        self.turns[turn.id] = turn
        return turn

    def as_json(self) -> dict[str, Any]:
        turns = [
            {"id": t.id, "parent_id": t.parent_id, "content": t.content, "answer": t.answer}
            for t in self.turns.values()
        ]
        return {
            "id": self.id,
            "account": self.account,
            "title": self.title,
            "mode": self.mode,
            "turns": turns,
            "overlaps": self.overlaps,
        }


def reply(earlier: list[str], content: str) -> str:
    """What the model says: from what it has read in this branch, and from nothing else.

    ``say WORDS`` is obeyed, ``call NAME {…}`` calls a tool that was described, results are
    repeated, and what somebody's favourite thing is, it remembers.
    """
    read = "\n".join([*earlier, content])
    blocks = [*_BLOCK.finditer(content)]
    newest = content[max((b.end() for b in blocks if b[2] != "tool_response"), default=0) :]
    if results := [found[3] for found in _BLOCK.finditer(newest)]:
        return f"The results: {'; '.join(results)}."
    offered = {name for block in _TOOLS.findall(read) for name in _NAME.findall(block)}
    calls = [(name, arguments) for name, arguments in _WISH.findall(newest) if name in offered]
    if calls:
        written = [
            f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
            for name, arguments in calls
        ]
        return "\n".join(["I look it up.", *written])
    if asked := _QUESTION.search(newest):
        facts = {thing.lower(): what for thing, what in _FACT.findall(read)}
        known = facts.get(asked[1].lower())
        return f"Your favourite {asked[1]} is {known}." if known else "I do not know that."
    if said := _SAY.search(newest):
        return said[1]
    return "Noted, thank you: grüß dich 👋."
