"""What single behaviours do to a recipe. Their names are in behaviours.py."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

from . import refusals, shapes, staging
from .answers import new_call
from .framing import event
from .recipe import Behaviour, Recipe
from .steps import Break, Endless, Pause, Send, Staging, WaitFor

_THOUGHTS = "First I look at what was asked. Then I weigh the words. Now I know what to say."
_BIG_BODY = 300_000


def reasoning(recipe: Recipe, argument: str) -> None:
    """Some thoughts, or N pieces of them."""
    thoughts = (f"thought{n}" for n in range(int(argument or 0)))
    recipe.answer.reasoning = " ".join(thoughts) or _THOUGHTS


def think_tags(recipe: Recipe, _: str) -> None:
    recipe.answer.text = f"<think>\n{_THOUGHTS}\n</think>\n\n{recipe.answer.text}"


def refusal(recipe: Recipe, _: str) -> None:
    recipe.answer.text = ""
    recipe.answer.refusal = "I'm sorry, I can't help with that."


def long(recipe: Recipe, argument: str) -> None:
    """A text of N pieces: with the role and the finish N + 2 chunks."""
    recipe.answer.calls = []
    recipe.answer.finish_reason = "stop"
    recipe.answer.text = " ".join(f"word{n}" for n in range(int(argument or 1000)))


def wide(recipe: Recipe, argument: str) -> None:
    """One piece of N characters."""
    recipe.answer.text = "x" * int(argument or 100_000)


def finish(recipe: Recipe, argument: str) -> None:
    recipe.answer.finish_reason = argument.replace("-", "_")


def no_finish(recipe: Recipe, _: str) -> None:
    recipe.answer.finish_reason = None


def call(recipe: Recipe, argument: str) -> None:
    """A call of that tool, whether it was offered or not."""
    recipe.answer.calls.append(new_call(argument or "invented_tool", '{"made_up": true}'))
    recipe.answer.finish_reason = "tool_calls"


def arguments(text: str) -> Behaviour:
    def behaviour(recipe: Recipe, _: str) -> None:
        for call in recipe.answer.calls:
            call.arguments = text

    return behaviour


def broken_arguments(recipe: Recipe, _: str) -> None:
    for call in recipe.answer.calls:
        call.arguments = call.arguments[:-1].rstrip('"')


def text_and_calls(recipe: Recipe, _: str) -> None:
    recipe.answer.text = "I look that up. "


def error_finish(recipe: Recipe, _: str) -> None:
    recipe.answer.calls = []
    recipe.answer.text = "[Throttling] Requests are too frequent, please try again later."
    recipe.answer.finish_reason = "error_finish"


def usage_everywhere(recipe: Recipe, _: str) -> None:
    recipe.shapers.append(lambda stream: shapes.usage_everywhere(recipe.answer, stream))


def usage_late(recipe: Recipe, _: str) -> None:
    recipe.shapers.append(lambda stream: shapes.late_usage(recipe.answer.usage(), stream))


def usage_top_level_cached(recipe: Recipe, _: str) -> None:
    usage = recipe.answer.usage()
    details = usage.pop("prompt_tokens_details")
    usage["cached_tokens"] = details["cached_tokens"]
    recipe.shapers.append(lambda stream: shapes.late_usage(usage, stream))


def usage_total_only(recipe: Recipe, _: str) -> None:
    usage = {"total_tokens": recipe.answer.usage()["total_tokens"]}
    recipe.shapers.append(lambda stream: shapes.late_usage(usage, stream))


def error_text() -> str:
    message = "<429> Throttling: Too many requests. Please slow down."
    error = refusals.error_body(message, "rate_limit_error", "Throttling.RateQuota")
    return json.dumps(error)


def error(recipe: Recipe, argument: str) -> None:
    """An error object behind the chunk of that number (0: first), then the end of the stream."""
    if not recipe.stream:
        recipe.refusal = refusals.named("200-error", recipe.body["model"])
        return
    frame = Send(event(error_text(), recipe.framing).encode())
    recipe.stagings.append(staging.cut(int(argument or 0), frame))


def error_after_text(recipe: Recipe, argument: str) -> None:
    error(recipe, argument or "3")


def error_event(recipe: Recipe, argument: str) -> None:
    frame = Send(f"event: error\ndata: {error_text()}\n\n".encode())
    recipe.stagings.append(staging.cut(int(argument or 3), frame))


def response_failed(recipe: Recipe, argument: str) -> None:
    """The terminal event of ``/responses`` behind the event of that number (2)."""
    error = json.loads(error_text())["error"]
    failed = {"type": "response.failed", "response": {"status": "failed", "error": error}}
    frame = Send(f"event: response.failed\ndata: {json.dumps(failed)}\n\n".encode())
    recipe.stagings.append(staging.cut(int(argument or 2), frame))


def drop_first(recipe: Recipe, _: str) -> None:
    recipe.before.append(Break("abort"))


def hang(recipe: Recipe, _: str) -> None:
    recipe.before.append(Endless())


def hold(recipe: Recipe, argument: str) -> None:
    """A gate before the head."""
    recipe.before.append(WaitFor(argument or "gate"))


def late_head(recipe: Recipe, argument: str) -> None:
    recipe.before.append(Pause(float(argument or 1)))


def big_body(recipe: Recipe, argument: str) -> None:
    filler = Send(b" " * 10_000)
    count = int(argument or _BIG_BODY) // len(filler.data)
    recipe.stagings.append(lambda steps: [*steps, *([filler] * count)])


def gate(argument: str) -> Staging:
    name, _, chunk = argument.partition("@")
    return staging.behind(int(chunk or 1), WaitFor(name or "gate"))


def paced(recipe: Recipe, argument: str) -> None:
    """``paced-50hz`` or, with that many pieces of text, ``paced-50hz-200``."""
    rate, _, count = argument.partition("-")
    if count:
        long(recipe, count)
    recipe.stagings.append(staging.paced(float(rate.removesuffix("hz") or 50)))


def until_close(recipe: Recipe, _: str) -> None:
    """No length and no chunks: the end of the connection ends the body (HTTP/1.1)."""
    recipe.until_close = True


def gzip(recipe: Recipe, _: str) -> None:
    recipe.gzip = True


def stream(wanted: bool) -> Behaviour:
    def behaviour(recipe: Recipe, _: str) -> None:
        recipe.stream = wanted

    return behaviour


def content_type(recipe: Recipe, argument: str) -> None:
    """``content-type-text/plain``; without an argument there is no such header."""
    recipe.content_type = argument


def trailers(recipe: Recipe, _: str) -> None:
    recipe.trailers.append(("x-sim-trailer", "yes"))


def hints(recipe: Recipe, _: str) -> None:
    recipe.hints.append(("link", "</style.css>; rel=preload"))


def retry_date(recipe: Recipe, argument: str) -> None:
    moment = formatdate(time.time() + float(argument or 2), usegmt=True)
    recipe.headers.append(("retry-after", moment))


def rate_limits(recipe: Recipe, _: str) -> None:
    recipe.headers += [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1s"),
    ]


def nothing(recipe: Recipe, _: str) -> None:
    """The default answer; ``limit-N`` is a rule and has been looked at already."""
