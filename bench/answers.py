"""Checks a recorded HTTP answer against its workload: a benchmark of wrong answers is void."""

import json
from itertools import pairwise

from pydantic import JsonValue, TypeAdapter

from bench.workloads import CALL_ID, TOOL_NAME, Api, Workload, tokens

_OBJECT = TypeAdapter(dict[str, JsonValue])


class WrongAnswer(Exception):
    pass


def require(condition: bool, what: str) -> None:
    if not condition:
        raise WrongAnswer(what)


def check(raw: bytes, workload: Workload, api: Api) -> None:
    head, _, body = raw.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0]
    require(b" 200 " in status + b" ", f"{status.decode()}: {body[:300].decode(errors='replace')}")
    require(b"text/event-stream" in head.lower(), f"not an event stream: {head!r}")
    frames = sse_frames(unchunked(body))
    if api == "chat":
        deltas = _chat_deltas(frames, workload)
    else:
        deltas = _responses_deltas(frames, workload)
    wanted = [*workload.thoughts, *workload.pieces]
    require("".join(deltas) == "".join(wanted), "the text is not what the upstream sent")
    require(deltas == wanted, f"{len(deltas)} delta events instead of {len(wanted)}")


def unchunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    position = 0
    while True:
        line_end = body.index(b"\r\n", position)
        size = int(body[position:line_end], 16)
        position = line_end + 2 + size + 2
        if not size:
            require(position == len(body), "bytes after the last HTTP chunk")
            return b"".join(pieces)
        pieces.append(body[line_end + 2 : position - 2])


def sse_frames(text: bytes) -> list[tuple[str, str]]:
    """Event name ("" when there is none) and data of each event; comments are left out."""
    require(text.endswith(b"\n\n"), "the last event has no blank line")
    frames = []
    for frame in text.decode().removesuffix("\n\n").split("\n\n"):
        lines = [line for line in frame.split("\n") if not line.startswith(":")]
        if lines:
            name = lines[0].removeprefix("event: ") if len(lines) == 2 else ""
            require(lines[-1].startswith("data: "), f"not an event: {frame!r}")
            frames.append((name, lines[-1].removeprefix("data: ")))
    return frames


def _chat_deltas(frames: list[tuple[str, str]], workload: Workload) -> list[str]:
    require(frames[-1][1] == "[DONE]", "no [DONE] at the end")
    deltas = []
    for _, data in frames[:-1]:
        for choice in json.loads(data)["choices"]:
            delta = choice["delta"]
            if workload.kind == "text":
                deltas.append(delta.get("reasoning_content") or delta.get("content", ""))
            elif "tool_calls" in delta:
                deltas.append(delta["tool_calls"][0]["function"]["arguments"])
    return [delta for delta in deltas if delta]


def _responses_deltas(frames: list[tuple[str, str]], workload: Workload) -> list[str]:
    if frames[-1][1] == "[DONE]":
        frames = frames[:-1]
    parsed = [(name, json.loads(data)) for name, data in frames]
    require(all(name == event["type"] for name, event in parsed), "an event differs from its type")
    events = [event for _, event in parsed]
    require(events[0]["type"] == "response.created", f"begins with {events[0]['type']}")
    numbers = [event["sequence_number"] for event in events]
    require(
        numbers[0] == 0 and all(b == a + 1 for a, b in pairwise(numbers)),
        "the sequence numbers have gaps",
    )
    ends = [i for i, event in enumerate(events) if event["type"] in TERMINAL]
    require(ends == [len(events) - 1], f"terminal events at {ends} of {len(events)}")
    last = events[-1]
    require(last["type"] == "response.completed", f"ends with {compact_error(last)}")
    _check_response(_OBJECT.validate_python(last["response"]), workload)
    thoughts = [event["delta"] for event in events if event["type"] in THOUGHT_DELTAS]
    return thoughts + [event["delta"] for event in events if event["type"] == DELTA[workload.kind]]


TERMINAL = {"response.completed", "response.incomplete", "response.failed", "error"}
THOUGHT_DELTAS = {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}
DELTA = {
    "text": "response.output_text.delta",
    "arguments": "response.function_call_arguments.delta",
}


def compact_error(event: dict[str, JsonValue]) -> str:
    return json.dumps(event)[:300]


def _check_response(response: dict[str, JsonValue], workload: Workload) -> None:
    usage = _OBJECT.validate_python(response["usage"])
    require(usage["output_tokens"] == tokens(workload), f"usage {usage}")
    output = TypeAdapter(list[dict[str, JsonValue]]).validate_python(response["output"])
    wanted = 2 if workload.thoughts else 1
    require(len(output) == wanted, f"{len(output)} output items instead of {wanted}")
    if workload.thoughts:
        thought = "".join(workload.thoughts)
        parts = TypeAdapter(list[dict[str, JsonValue]]).validate_python(
            output[0].get("content") or output[0]["summary"]
        )
        require([part["text"] for part in parts] == [thought], "it has another thought")
    item, whole = output[-1], "".join(workload.pieces)
    if workload.kind == "text":
        parts = TypeAdapter(list[dict[str, JsonValue]]).validate_python(item["content"])
        require([part["text"] for part in parts] == [whole], "response.completed has another text")
    else:
        require(
            (item["name"], item["call_id"], item["arguments"]) == (TOOL_NAME, CALL_ID, whole),
            "response.completed has another function call",
        )
