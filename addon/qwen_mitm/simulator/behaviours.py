"""Behaviours by name: what ``sim-<behaviour>[+<behaviour>…]`` may ask for.

A name may be followed by ``-<argument>``: ``sim-long-2000+paced-50hz+gate-a``. Positions count
chunks from 1, negative ones from the last chunk (-1).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Literal

from . import refusals, shapes, staging
from .answers import answer, new_call
from .chunks import Shaper
from .framing import event
from .recipe import Behaviour, Recipe
from .rules import Body
from .steps import Break, Endless, Pause, Send, Staging, WaitFor

PREFIX = "sim-"
_THOUGHTS = "First I look at what was asked. Then I weigh the words. Now I know what to say."
_BIG_BODY = 300_000


class UnknownBehaviour(ValueError):
    """No behaviour has this name, or its argument is not what it needs."""


def cook(body: Body, wanted: str) -> Recipe:
    """The recipe for behaviours joined by ``+``; "" is the default answer."""
    recipe = Recipe(body=body, stream=body.get("stream") is True, answer=answer(body))
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


# --- what is said


def _reasoning(recipe: Recipe, _: str) -> None:
    recipe.answer.reasoning = _THOUGHTS


def _think_tags(recipe: Recipe, _: str) -> None:
    recipe.answer.text = f"<think>\n{_THOUGHTS}\n</think>\n\n{recipe.answer.text}"


def _refusal(recipe: Recipe, _: str) -> None:
    recipe.answer.text = ""
    recipe.answer.refusal = "I'm sorry, I can't help with that."


def _long(recipe: Recipe, argument: str) -> None:
    """A text of N pieces: with the role and the finish N + 2 chunks."""
    recipe.answer.calls = []
    recipe.answer.finish_reason = "stop"
    recipe.answer.text = " ".join(f"word{n}" for n in range(int(argument or 1000)))


def _wide(recipe: Recipe, argument: str) -> None:
    """One piece of N characters."""
    recipe.answer.text = "x" * int(argument or 100_000)


def _finish(recipe: Recipe, argument: str) -> None:
    recipe.answer.finish_reason = argument.replace("-", "_")


def _no_finish(recipe: Recipe, _: str) -> None:
    recipe.answer.finish_reason = None


def _call(recipe: Recipe, argument: str) -> None:
    """A call of that tool, whether it was offered or not."""
    recipe.answer.calls.append(new_call(argument or "invented_tool", '{"made_up": true}'))
    recipe.answer.finish_reason = "tool_calls"


def _arguments(text: str) -> Behaviour:
    def behaviour(recipe: Recipe, _: str) -> None:
        for call in recipe.answer.calls:
            call.arguments = text

    return behaviour


def _broken_arguments(recipe: Recipe, _: str) -> None:
    for call in recipe.answer.calls:
        call.arguments = call.arguments[:-1].rstrip('"')


def _text_and_calls(recipe: Recipe, _: str) -> None:
    recipe.answer.text = "I look that up. "


def _error_finish(recipe: Recipe, _: str) -> None:
    recipe.answer.calls = []
    recipe.answer.text = "[Throttling] Requests are too frequent, please try again later."
    recipe.answer.finish_reason = "error_finish"


# --- usage


def _usage_everywhere(recipe: Recipe, _: str) -> None:
    recipe.shapers.append(lambda stream: shapes.usage_everywhere(recipe.answer, stream))


def _usage_late(recipe: Recipe, _: str) -> None:
    recipe.shapers.append(lambda stream: shapes.late_usage(recipe.answer.usage(), stream))


def _usage_top_level_cached(recipe: Recipe, _: str) -> None:
    usage = recipe.answer.usage()
    details = usage.pop("prompt_tokens_details")
    usage["cached_tokens"] = details["cached_tokens"]
    recipe.shapers.append(lambda stream: shapes.late_usage(usage, stream))


def _usage_total_only(recipe: Recipe, _: str) -> None:
    usage = {"total_tokens": recipe.answer.usage()["total_tokens"]}
    recipe.shapers.append(lambda stream: shapes.late_usage(usage, stream))


# --- how it goes wrong


def _error_text() -> str:
    message = "<429> Throttling: Too many requests. Please slow down."
    error = refusals.error_body(message, "rate_limit_error", "Throttling.RateQuota")
    return json.dumps(error)


def _error(recipe: Recipe, argument: str) -> None:
    """An error object behind the chunk of that number (0: first), then the end of the stream."""
    if not recipe.stream:
        recipe.refusal = refusals.named("200-error", recipe.body["model"])
        return
    frame = Send(event(_error_text(), recipe.framing).encode())
    recipe.stagings.append(staging.cut(int(argument or 0), frame))


def _error_after_text(recipe: Recipe, argument: str) -> None:
    _error(recipe, argument or "3")


def _error_event(recipe: Recipe, argument: str) -> None:
    frame = Send(f"event: error\ndata: {_error_text()}\n\n".encode())
    recipe.stagings.append(staging.cut(int(argument or 3), frame))


def _drop_first(recipe: Recipe, _: str) -> None:
    recipe.before.append(Break("abort"))


def _hang(recipe: Recipe, _: str) -> None:
    recipe.before.append(Endless())


def _hold(recipe: Recipe, argument: str) -> None:
    """A gate before the head."""
    recipe.before.append(WaitFor(argument or "gate"))


def _late_head(recipe: Recipe, argument: str) -> None:
    recipe.before.append(Pause(float(argument or 1)))


def _big_body(recipe: Recipe, argument: str) -> None:
    filler = Send(b" " * 10_000)
    count = int(argument or _BIG_BODY) // len(filler.data)
    recipe.stagings.append(lambda steps: [*steps, *([filler] * count)])


# --- the wire


def _gate(argument: str) -> Staging:
    name, _, chunk = argument.partition("@")
    return staging.behind(int(chunk or 1), WaitFor(name or "gate"))


def _paced(recipe: Recipe, argument: str) -> None:
    """``paced-50hz`` or, with that many pieces of text, ``paced-50hz-200``."""
    rate, _, count = argument.partition("-")
    if count:
        _long(recipe, count)
    recipe.stagings.append(staging.paced(float(rate.removesuffix("hz") or 50)))


def _close(recipe: Recipe, _: str) -> None:
    recipe.until_close = True
    recipe.headers.append(("connection", "close"))


def _gzip(recipe: Recipe, _: str) -> None:
    recipe.gzip = True


def _stream(wanted: bool) -> Behaviour:
    def behaviour(recipe: Recipe, _: str) -> None:
        recipe.stream = wanted

    return behaviour


def _content_type(recipe: Recipe, argument: str) -> None:
    """``content-type-text/plain``; without an argument there is no such header."""
    recipe.content_type = argument


def _trailers(recipe: Recipe, _: str) -> None:
    recipe.trailers.append(("x-sim-trailer", "yes"))


def _hints(recipe: Recipe, _: str) -> None:
    recipe.hints.append(("link", "</style.css>; rel=preload"))


def _retry_date(recipe: Recipe, argument: str) -> None:
    moment = formatdate(time.time() + float(argument or 2), usegmt=True)
    recipe.headers.append(("retry-after", moment))


def _rate_limits(recipe: Recipe, _: str) -> None:
    recipe.headers += [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1s"),
    ]


def _nothing(recipe: Recipe, _: str) -> None:
    """The default answer; ``limit-N`` is a rule and has been looked at already."""


def _set(name: str, value: object) -> Behaviour:
    return lambda recipe, _: setattr(recipe.framing, name, value)


BEHAVIOURS: dict[str, Behaviour] = {
    "ok": _nothing,
    "limit": _nothing,
    # what is said
    "reasoning": _reasoning,
    "think-tags": _think_tags,
    "refusal": _refusal,
    "long": _long,
    "wide": _wide,
    "finish": _finish,
    "no-finish": _no_finish,
    "call": _call,
    "text-and-calls": _text_and_calls,
    "empty-arguments": _arguments(""),
    "array-arguments": _arguments("[1, 2]"),
    "broken-arguments": _broken_arguments,
    "error-finish": _error_finish,
    # usage
    "usage-late": _usage_late,
    "usage-everywhere": _usage_everywhere,
    "usage-top-level-cached": _usage_top_level_cached,
    "usage-total-only": _usage_total_only,
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
    "stop-with-calls": lambda recipe, _: _finish(recipe, "stop"),
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
    "gate": _stage(_gate),
    "hold": _hold,
    "paced": _paced,
    "silent": _stage(lambda s: staging.behind(1, Pause(float(s or 1)))),
    "silent-head": _stage(lambda s: staging.behind(0, Pause(float(s or 1)))),
    "heartbeats": _stage(lambda s: staging.heartbeats(1, float(s or 1))),
    "heartbeats-first": _stage(lambda s: staging.heartbeats(0, float(s or 1))),
    "late-head": _late_head,
    "hang": _hang,
    "hang-after": _stage(lambda n: staging.cut(int(n or 1), Endless())),
    "never-ends": _stage(lambda _: staging.never_ends),
    # breaking off
    "error-first": _error,
    "error-after-text": _error_after_text,
    "error-event": _error_event,
    "drop-first": _drop_first,
    "drop": _break("abort"),
    "unfinished": _break("close"),
    "reset": _break("reset"),
    "eof": _stage(lambda n: staging.cut(int(n or 3))),
    "cut-utf8": _stage(lambda _: staging.cut_character("close")),
    # HTTP
    "gzip": _gzip,
    "json-anyway": _stream(False),
    "sse-anyway": _stream(True),
    "content-type": _content_type,
    "trailers": _trailers,
    "early-hints": _hints,
    "close": _close,
    "retry-after": _header("retry-after", "2"),
    "retry-after-ms": _header("retry-after-ms", "1500"),
    "retry-date": _retry_date,
    "rate-limits": _rate_limits,
    "big-body": _big_body,
    "endless-body": _stage(lambda _: lambda steps: [*steps, Endless(b" " * 4096)]),
    "stuck-body": _stage(lambda _: staging.never_ends),
    **{name: _refuse(name) for name in refusals.NAMES},
}
