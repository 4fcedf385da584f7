"""What is asked and what must come back: the upstream renders it, the load generator checks it.

The model's name chooses the answer, so it chooses through any proxy that keeps it.
"""

import json
import random
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

from pydantic import JsonValue

type Api = Literal["chat", "responses"]
type Kind = Literal["text", "arguments"]
type Cut = Literal["events", "anywhere"]

UPSTREAM_KEY = "fake-bench-key"
TOOL_NAME = "write_file"
CALL_ID = "call_0123456789abcdef01234567"
ITEM_MARK = b"#item-"
#: How many of them a request has.
ITEMS_HEADER = b"x-bench-items"
# Replaced before each request, so that no two requests open the same conversation.
CONVERSATION = b"conversation-000000"
#: Items of a history; "image": a hundred, with a screenshot before them.
HISTORY_SIZES: tuple[int | Literal["image"], ...] = (10, 100, 264, 400, "image")
#: Characters of a screenshot as a data URL.
IMAGE_SIZE = 400_000
_MORE_ITEM = "more"
_MORE = b',"more"'
PACED_PER_SECOND = 50.0
PACED_SECONDS = (2, 3)


@dataclass(frozen=True, slots=True)
class Workload:
    model: str
    kind: Kind
    pieces: tuple[str, ...]
    """The deltas of the answer: as many, in this order, whatever is in between."""
    thoughts: tuple[str, ...] = ()
    """The deltas of a thought before them."""
    per_second: float | None = None
    cut: Cut = "events"
    """Where the upstream begins a new HTTP chunk."""
    history: int = 0
    """How many marked items a request carries; the upstream refuses when some are missing."""
    grows: bool = False
    """The requests are turns of one conversation, each with two items more than the one before."""
    image: bool = False
    """There is a screenshot in the history."""


def words(count: int) -> tuple[str, ...]:
    """Like a model's tokens: mostly plain words, now and then what JSON must escape."""
    special = {0: "\n", 7: ' "so"', 13: "你好", 21: "\\n", 33: "🙂"}
    return tuple(special.get(i % 40, f" word{i}") for i in range(1, count + 1))


def argument_fragments(count: int) -> tuple[str, ...]:
    lines = [f'line {i}: print("{"x" * (i % 9)}")\n' for i in range(count // 5)]
    text = json.dumps({"path": "src/main.py", "content": "".join(lines)})
    cuts = [len(text) * i // count for i in range(count + 1)]
    return tuple(text[start:end] for start, end in pairwise(cuts))


def _workloads() -> list[Workload]:
    return [
        Workload("bench-burst", "text", words(10_000)),
        Workload("bench-arguments", "arguments", argument_fragments(5_000)),
        Workload("bench-reasoning", "text", words(400), thoughts=words(4_000)),
        Workload("bench-cut", "text", words(10_000), cut="anywhere"),
        Workload("bench-short", "text", words(8)),
        *(
            Workload(
                f"bench-paced-{seconds}",
                "text",
                words(int(seconds * PACED_PER_SECOND)),
                per_second=PACED_PER_SECOND,
            )
            for seconds in PACED_SECONDS
        ),
        *(
            Workload(
                f"bench-{kind}-{size}",
                "text",
                words(8),
                history=100 if size == "image" else size,
                image=size == "image",
                grows=kind == "turns",
            )
            for kind in ("history", "turns")
            for size in HISTORY_SIZES
        ),
    ]


WORKLOADS = {workload.model: workload for workload in _workloads()}


def compact(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# The upstream's answer.


def events(workload: Workload) -> list[bytes]:
    """The answer's SSE events as Model Studio words them, `[DONE]` included."""
    deltas: list[JsonValue]
    if workload.kind == "text":
        finish = "stop"
        deltas = [{"content": "", "role": "assistant"}]
        deltas += [{"content": None, "reasoning_content": piece} for piece in workload.thoughts]
        deltas += [{"content": piece} for piece in workload.pieces]
    else:
        finish = "tool_calls"
        deltas = [_tool_call("", call_id=CALL_ID, name=TOOL_NAME)]
        deltas += [_tool_call(piece) for piece in workload.pieces]
    chunks = [_chunk(workload.model, delta) for delta in deltas]
    chunks.append(_chunk(workload.model, {}, finish=finish))
    count = tokens(workload)
    usage: JsonValue = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
    chunks.append(_chunk(workload.model, None, usage=usage))
    return [b"data: " + compact(chunk) + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def tokens(workload: Workload) -> int:
    return len(workload.thoughts) + len(workload.pieces)


def http_pieces(workload: Workload) -> list[bytes]:
    """The answer in the pieces that the upstream makes HTTP chunks of."""
    rendered = events(workload)
    if workload.cut == "events":
        return rendered
    stream = b"".join(rendered)
    # The same cuts in every run.
    places = random.Random(workload.model)
    cuts = sorted(places.sample(range(1, len(stream)), len(rendered)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


def _tool_call(arguments: str, *, call_id: str = "", name: str | None = None) -> JsonValue:
    function: dict[str, JsonValue] = {"arguments": arguments}
    if name:
        function["name"] = name
    call: JsonValue = {"index": 0, "id": call_id, "type": "function", "function": function}
    return {"tool_calls": [call]}


def _chunk(
    model: str, delta: JsonValue, *, finish: str | None = None, usage: JsonValue = None
) -> JsonValue:
    choice: JsonValue = {"delta": delta, "finish_reason": finish, "index": 0, "logprobs": None}
    return {
        "choices": [] if delta is None else [choice],
        "object": "chat.completion.chunk",
        "usage": usage,
        "created": 1_763_640_000,
        "system_fingerprint": None,
        "model": model,
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    }


# The request, in both APIs, of the same size.


@cache
def request_parts(workload: Workload, api: Api) -> tuple[bytes, bytes]:
    """The body before and after the place where a later turn has more items."""
    difference = len(_body(workload, "responses", 0)) - len(_body(workload, "chat", 0))
    short_one: Api = "chat" if difference > 0 else "responses"
    body = _body(workload, api, abs(difference) if api == short_one else 0)
    before, _, after = body.partition(_MORE)
    return before, after


def request_body(workload: Workload, api: Api) -> bytes:
    return b"".join(request_parts(workload, api))


def turn_items(turn: int, api: Api) -> bytes:
    """The two items that a later turn adds: a call and what it brought."""
    call = 4 * (1_000 + turn)
    make = _item if api == "responses" else _message
    return b"".join(b"," + compact(make(i)) for i in (call, call + 1))


def _body(workload: Workload, api: Api, padding: int) -> bytes:
    instructions = "You are a careful assistant." + " " * padding
    question = "Say something. " + CONVERSATION.decode()
    tools = _tools(api, 12 if workload.history else int(workload.kind == "arguments"))
    body: dict[str, JsonValue]
    if api == "chat":
        body = {
            "model": workload.model,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": question},
                *([_screenshot(api)] if workload.image else []),
                *(_message(i) for i in range(workload.history)),
                _MORE_ITEM,
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    else:
        body = {
            "model": workload.model,
            "instructions": instructions,
            "input": [
                _text_item("user", "input_text", question),
                *([_screenshot(api)] if workload.image else []),
                *(_item(i) for i in range(workload.history)),
                _MORE_ITEM,
            ],
            "stream": True,
            "store": False,
        }
    if tools:
        body["tools"] = tools
    return compact(body)


def _tools(api: Api, count: int) -> list[JsonValue]:
    tools: list[JsonValue] = []
    for i in range(count):
        function: dict[str, JsonValue] = {
            "name": f"{TOOL_NAME}_{i}" if i else TOOL_NAME,
            "description": "Writes a file below the workspace and says what changed. " * 6,
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Where to, from the workspace."},
                    "content": {"type": "string", "description": "The whole new content."},
                },
                "required": ["path", "content"],
                "additionalProperties": False,
            },
        }
        if api == "chat":
            tools.append({"type": "function", "function": function})
        else:
            tools.append({"type": "function", "strict": False, **function})
    return tools


def _marked(i: int, size: int) -> str:
    """Text of a coding session: one line in four has something to escape."""
    line = f'    value = table.get("key{i}", 0)  # look it up\n    total += value * 2\n'
    return f"{ITEM_MARK.decode()}{i:04}#\n" + line * (size // len(line))


def _arguments(i: int) -> str:
    return json.dumps({"path": f"src/part{i}.py", "content": _marked(i, 1_000)})


# A coding agent's turn: a call, its output, a remark, a question. About 2.5 KB each, on average.


def _item(i: int) -> JsonValue:
    match i % 4:
        case 0:
            return {
                "type": "function_call",
                "call_id": f"call_{i}",
                "name": TOOL_NAME,
                "arguments": _arguments(i),
            }
        case 1:
            output = _marked(i, 6_500)
            return {"type": "function_call_output", "call_id": f"call_{i - 1}", "output": output}
        case 2:
            return _text_item("assistant", "output_text", _marked(i, 1_500))
        case _:
            return _text_item("user", "input_text", _marked(i, 500))


def _screenshot(api: Api) -> JsonValue:
    url = "data:image/png;base64," + "iVBORw0KGgo/" * (IMAGE_SIZE // 12)
    if api == "responses":
        part: JsonValue = {"type": "input_image", "image_url": url}
    else:
        part = {"type": "image_url", "image_url": {"url": url}}
    return {"role": "user", "content": [part]}


def _text_item(role: str, part: str, text: str) -> JsonValue:
    return {"type": "message", "role": role, "content": [{"type": part, "text": text}]}


def _message(i: int) -> JsonValue:
    match i % 4:
        case 0:
            function: JsonValue = {"name": TOOL_NAME, "arguments": _arguments(i)}
            call: JsonValue = {"id": f"call_{i}", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case 1:
            return {"role": "tool", "tool_call_id": f"call_{i - 1}", "content": _marked(i, 6_500)}
        case 2:
            return {"role": "assistant", "content": _marked(i, 1_500)}
        case _:
            return {"role": "user", "content": _marked(i, 500)}
