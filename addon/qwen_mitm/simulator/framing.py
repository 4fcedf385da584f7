"""Chunks as an event stream, with the quirks of its bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .chunks import Chunk
from .steps import Send, Step


@dataclass(slots=True)
class Framing:
    newline: str = "\n"
    space: bool = True
    bom: bool = False
    comments: bool = False
    fields: bool = False
    several_data_lines: bool = False
    junk_line: bool = False
    named: bool = False
    """Each event says its type, as on ``/responses``."""
    done: str | None = "[DONE]"
    blank_line_after_done: bool = True


def frame(stream: list[Chunk], framing: Framing) -> list[Step]:
    """One step per chunk, and one for [DONE]."""
    steps: list[Step] = []
    for number, chunk in enumerate(stream):
        head = "\ufeff" if framing.bom and number == 0 else ""
        if framing.comments:
            head += f": keep-alive{framing.newline}{framing.newline}"
        if framing.junk_line and number == 1:
            head += event("this is not JSON", framing)
        if framing.fields:
            head += f"id: {number}{framing.newline}event: result{framing.newline}"
            head += f":HTTP_STATUS/200{framing.newline}"
        if framing.named:
            head += f"event: {chunk['type']}{framing.newline}"
        steps.append(Send((head + event(_text(chunk, framing), framing)).encode(), chunks=1))
    if framing.done is not None:
        last = event(framing.done, framing)
        if not framing.blank_line_after_done:
            last = last.removesuffix(framing.newline * 2)
        steps.append(Send(last.encode()))
    return steps


def event(data: str, framing: Framing) -> str:
    space = " " if framing.space else ""
    lines = [f"data:{space}{line}{framing.newline}" for line in data.split("\n")]
    return "".join(lines) + framing.newline


def _text(chunk: Chunk, framing: Framing) -> str:
    if framing.several_data_lines:
        return json.dumps(chunk, ensure_ascii=False, indent=1)
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
