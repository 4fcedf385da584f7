"""Behaviours by name: what ``sim-<behaviour>[+<behaviour>…]`` may ask for.

A name may be followed by ``-<argument>``: ``sim-long-2000+paced-50hz+gate-a``. Positions count
chunks from 1, negative ones from the last chunk (-1). They act in the order in which they are
named: ``drop-3+gate-a@3`` waits at the gate and then drops the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from . import effects, refusals, shapes, staging
from .answers import answer
from .chunks import Shaper
from .recipe import Behaviour, Recipe
from .rules import Body
from .steps import Break, Endless, Pause, Staging

PREFIX = "sim-"


class UnknownBehaviour(ValueError):
    """No behaviour has this name, or its argument is not what it needs."""


def cook(body: Body, wanted: str, *, responses: bool = False) -> Recipe:
    """The recipe for behaviours joined by ``+``; "" is the default answer."""
    recipe = Recipe(
        body=body, stream=body.get("stream") is True, answer=answer(body), responses=responses
    )
    if responses:
        recipe.framing.named = True
        recipe.framing.done = None
    for name in filter(None, wanted.split("+")):
        behaviour, argument = find(name)
        try:
            behaviour(recipe, argument)
        except ValueError as error:
            raise UnknownBehaviour(f"cannot do {name!r}: {error}") from error
    return recipe


def find(name: str) -> tuple[Behaviour, str]:
    """The behaviour with the longest name that this begins with, and the rest as its argument."""
    known = name
    while known:
        if known in BEHAVIOURS:
            return BEHAVIOURS[known], name[len(known) + 1 :]
        known = known.rpartition("-")[0]
    raise UnknownBehaviour(f"no behaviour {name!r}; there are: {', '.join(sorted(BEHAVIOURS))}")


def _shape(shaper: Shaper) -> Behaviour:
    return lambda recipe, _: recipe.shapers.append(shaper)


def _stage(make: Callable[[str], Staging]) -> Behaviour:
    return lambda recipe, argument: recipe.stagings.append(make(argument))


def _refuse(name: str) -> Behaviour:
    def behaviour(recipe: Recipe, _: str) -> None:
        recipe.refusal = refusals.named(name, recipe.body["model"])

    return behaviour


def _header(name: str, default: str) -> Behaviour:
    return lambda recipe, argument: recipe.headers.append((name, argument or default))


def _break(how: Literal["reset", "close", "abort"]) -> Behaviour:
    """Break off behind the chunk of that number (3)."""
    return _stage(lambda argument: staging.cut(int(argument or 3), Break(how)))


def _set(name: str, value: object) -> Behaviour:
    return lambda recipe, _: setattr(recipe.framing, name, value)


BEHAVIOURS: dict[str, Behaviour] = {
    "ok": effects.nothing,
    "limit": effects.nothing,
    # what is said
    "reasoning": effects.reasoning,
    "think-tags": effects.think_tags,
    "refusal": effects.refusal,
    "long": effects.long,
    "wide": effects.wide,
    "finish": effects.finish,
    "no-finish": effects.no_finish,
    "call": effects.call,
    "text-and-calls": effects.text_and_calls,
    "empty-arguments": effects.arguments(""),
    "array-arguments": effects.arguments("[1, 2]"),
    "broken-arguments": effects.broken_arguments,
    "error-finish": effects.error_finish,
    # usage
    "usage-late": effects.usage_late,
    "usage-everywhere": effects.usage_everywhere,
    "usage-top-level-cached": effects.usage_top_level_cached,
    "usage-total-only": effects.usage_total_only,
    "no-usage": _shape(shapes.without_usage),
    # the chunks
    "role-everywhere": _shape(shapes.role_everywhere),
    "empty-deltas": _shape(shapes.empty_deltas),
    "reasoning-field": _shape(shapes.reasoning_field),
    "both-reasoning-fields": _shape(shapes.both_reasoning_fields),
    "whole-calls": _shape(shapes.whole_calls),
    "blank-continuation": _shape(shapes.blank_continuation),
    "repeated-name": _shape(shapes.repeated_name),
    "late-name": _shape(shapes.late_name),
    "no-index": _shape(shapes.no_index),
    "reused-index": _shape(shapes.reused_index),
    "index-from-one": _shape(shapes.index_from_one),
    "interleaved": _shape(shapes.interleaved),
    "replayed-calls": _shape(shapes.replayed_calls),
    "argument-objects": _shape(shapes.argument_objects),
    "null-arguments": _shape(shapes.null_arguments),
    "legacy-call": _shape(shapes.legacy_call),
    "stop-with-calls": lambda recipe, _: effects.finish(recipe, "stop"),
    "cumulative": _shape(shapes.cumulative),
    "content-parts": _shape(shapes.content_parts),
    "whole-message": _shape(shapes.whole_message),
    "two-finishes": _shape(shapes.two_finishes),
    "second-choice": _shape(shapes.second_choice),
    "unknown-fields": _shape(shapes.unknown_fields),
    # the event stream
    "no-done": _set("done", None),
    "done-without-newline": _set("blank_line_after_done", False),
    "crlf": _set("newline", "\r\n"),
    "cr": _set("newline", "\r"),
    "comments": _set("comments", True),
    "no-space": _set("space", False),
    "bom": _set("bom", True),
    "fields": _set("fields", True),
    "several-data-lines": _set("several_data_lines", True),
    "junk-line": _set("junk_line", True),
    # pieces and time
    "split-utf8": _stage(lambda _: staging.split_characters),
    "bytewise": _stage(lambda _: staging.bytewise),
    "one-piece": _stage(lambda _: staging.one_piece),
    "gate": _stage(effects.gate),
    "hold": effects.hold,
    "paced": effects.paced,
    "silent": _stage(lambda s: staging.behind(1, Pause(float(s or 1)))),
    "silent-head": _stage(lambda s: staging.behind(0, Pause(float(s or 1)))),
    "heartbeats": _stage(lambda s: staging.heartbeats(1, float(s or 1))),
    "heartbeats-first": _stage(lambda s: staging.heartbeats(0, float(s or 1))),
    "late-head": effects.late_head,
    "hang": effects.hang,
    "hang-after": _stage(lambda n: staging.cut(int(n or 1), Endless())),
    "never-ends": _stage(lambda _: staging.never_ends),
    # breaking off
    "error-first": effects.error,
    "error-after-text": effects.error_after_text,
    "error-event": effects.error_event,
    "response-failed": effects.response_failed,
    "drop-first": effects.drop_first,
    "drop": _break("abort"),
    "unfinished": _break("close"),
    "reset": _break("reset"),
    "eof": _stage(lambda n: staging.cut(int(n or 3))),
    "cut-utf8": _stage(lambda _: staging.cut_character("close")),
    # HTTP
    "gzip": effects.gzip,
    "json-anyway": effects.stream(False),
    "sse-anyway": effects.stream(True),
    "content-type": effects.content_type,
    "trailers": effects.trailers,
    "early-hints": effects.hints,
    "close": lambda recipe, _: recipe.headers.append(("connection", "close")),
    "until-close": effects.until_close,
    "retry-after": _header("retry-after", "2"),
    "retry-after-ms": _header("retry-after-ms", "1500"),
    "retry-date": effects.retry_date,
    "rate-limits": effects.rate_limits,
    "big-body": effects.big_body,
    "endless-body": _stage(lambda _: lambda steps: [*steps, Endless(b" " * 4096)]),
    "stuck-body": _stage(lambda _: staging.never_ends),
    **{name: _refuse(name) for name in refusals.NAMES},
}
