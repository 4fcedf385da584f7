"""When the bytes of an answer leave, in which pieces, and where it breaks off."""

from __future__ import annotations

from typing import Literal

from .steps import At, Break, Endless, Pause, Send, Staging, Step, WaitFor

_BEATS_PER_SECOND = 5


def _position(steps: list[Step], chunk: int) -> int:
    """The position behind the chunk of that number; negative numbers count from the last one."""
    ends = [i + 1 for i, step in enumerate(steps) if isinstance(step, Send) and step.chunks]
    if not ends or chunk == 0:
        return 0
    if chunk > 0:
        return ends[min(chunk, len(ends)) - 1]
    return ends[max(chunk, -len(ends))]


def behind(chunk: int, *extra: Step) -> Staging:
    """Insert steps behind the chunk of that number (1 is the first)."""

    def stage(steps: list[Step]) -> list[Step]:
        at = _position(steps, chunk)
        return [*steps[:at], *extra, *steps[at:]]

    return stage


def gate(name: str, chunk: int) -> Staging:
    return behind(chunk, WaitFor(name))


def silence(chunk: int, seconds: float) -> Staging:
    return behind(chunk, Pause(seconds))


def heartbeats(chunk: int, seconds: float) -> Staging:
    """Comments while the model thinks."""
    count = max(1, round(seconds * _BEATS_PER_SECOND))
    beat = (Send(b": keep-alive\n\n"), Pause(seconds / count))
    return behind(chunk, *(beat * count))


def cut(chunk: int, *ending: Step) -> Staging:
    """Nothing after the chunk of that number but the ending."""

    def stage(steps: list[Step]) -> list[Step]:
        return [*steps[: _position(steps, chunk)], *ending]

    return stage


def cut_character(how: Literal["reset", "close", "abort"]) -> Staging:
    """Break off in the middle of the first character that has several bytes."""

    def stage(steps: list[Step]) -> list[Step]:
        for number, step in enumerate(steps):
            if isinstance(step, Send) and (at := _inside_character(step.data)):
                return [*steps[:number], Send(step.data[:at]), Break(how)]
        return [*steps[:-1], Break(how)]

    return stage


def split_characters(steps: list[Step]) -> list[Step]:
    """Every piece ends in the middle of a character where it has one of several bytes."""
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Send) and (at := _inside_character(step.data)):
            result += [Send(step.data[:at]), Pause(0), Send(step.data[at:], step.chunks)]
        else:
            result.append(step)
    return result


def bytewise(steps: list[Step]) -> list[Step]:
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Send):
            result += [Send(step.data[i : i + 1]) for i in range(len(step.data) - 1)]
            result.append(Send(step.data[-1:], step.chunks))
        else:
            result.append(step)
    return result


def one_piece(steps: list[Step]) -> list[Step]:
    sends = [step for step in steps if isinstance(step, Send)]
    return [Send(b"".join(s.data for s in sends), sum(s.chunks for s in sends))]


def paced(hertz: float) -> Staging:
    """One chunk each 1/hertz seconds, by the clock."""

    def stage(steps: list[Step]) -> list[Step]:
        result: list[Step] = []
        number = 0
        for step in steps:
            if isinstance(step, Send) and step.chunks:
                result.append(At(number / hertz))
                number += 1
            result.append(step)
        return result

    return stage


def never_ends(steps: list[Step]) -> list[Step]:
    return [*steps, Endless()]


def _inside_character(data: bytes) -> int:
    """The place behind the first byte above 0x7f, or 0."""
    return next((i + 1 for i, byte in enumerate(data) if byte > 0x7F), 0)
