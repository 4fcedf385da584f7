"""Quirks of the chunks themselves: each takes a well-behaved stream and spoils it."""

from __future__ import annotations

import json
from typing import Any

from .answers import Answer
from .chunks import Chunk, carries, choices, deltas, tool_deltas, twin, usage_chunk


def role_everywhere(stream: list[Chunk]) -> list[Chunk]:
    for delta in deltas(stream):
        delta["role"] = "assistant"
    return stream


def empty_deltas(stream: list[Chunk]) -> list[Chunk]:
    """Keep-alives: content "" and null between the chunks."""
    result = []
    for chunk in stream:
        result.append(chunk)
        if chunk["choices"] and chunk["choices"][0]["finish_reason"] is None:
            for nothing in ("", None):
                idle = twin(chunk)
                idle["choices"][0]["delta"] = {"content": nothing, "tool_calls": None}
                result.append(idle)
    return result


def without_usage(stream: list[Chunk]) -> list[Chunk]:
    return [chunk | {"usage": None} for chunk in stream if chunk["choices"]]


def usage_everywhere(answer: Answer, stream: list[Chunk]) -> list[Chunk]:
    """Usage on every chunk, growing; no separate chunk. The last one is right."""
    stream = without_usage(stream)
    final = answer.usage()
    for number, chunk in enumerate(stream, start=1):
        said = final["completion_tokens"] * number // len(stream)
        total = final["prompt_tokens"] + said
        chunk["usage"] = final | {"completion_tokens": said, "total_tokens": total}
    return stream


def late_usage(usage: dict[str, Any], stream: list[Chunk]) -> list[Chunk]:
    """One late chunk with this usage and no choices, asked for or not."""
    kept = without_usage(stream)
    return [*kept, usage_chunk(kept[0], usage)]


def reasoning_field(stream: list[Chunk]) -> list[Chunk]:
    """``delta.reasoning``, as vLLM and OpenRouter call it."""
    for delta in deltas(stream):
        if "reasoning_content" in delta:
            delta["reasoning"] = delta.pop("reasoning_content")
    return stream


def both_reasoning_fields(stream: list[Chunk]) -> list[Chunk]:
    for delta in deltas(stream):
        if "reasoning_content" in delta:
            delta["reasoning"] = delta["reasoning_content"]
    return stream


def whole_calls(stream: list[Chunk]) -> list[Chunk]:
    """Each call in one chunk, arguments and all."""
    result: list[Chunk] = []
    heads: dict[int, dict[str, Any]] = {}
    for chunk in stream:
        call = next(iter(tool_deltas([chunk])), None)
        if call is None:
            result.append(chunk)
        elif call["index"] in heads:
            heads[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        else:
            heads[call["index"]] = call
            result.append(chunk)
    return result


def blank_continuation(stream: list[Chunk]) -> list[Chunk]:
    """Empty names and ids in the fragments that follow."""
    for call in tool_deltas(stream):
        if "id" not in call:
            call |= {"id": "", "type": ""}
            call["function"] = {"name": "", **call["function"]}
    return stream


def repeated_name(stream: list[Chunk]) -> list[Chunk]:
    heads: dict[int, dict[str, Any]] = {}
    for call in tool_deltas(stream):
        head = heads.setdefault(call["index"], call)
        if head is not call:
            call |= {"id": head["id"], "type": "function"}
            call["function"]["name"] = head["function"]["name"]
    return stream


def late_name(stream: list[Chunk]) -> list[Chunk]:
    """The name comes with the last fragment of its call."""
    last: dict[int, dict[str, Any]] = {}
    names: dict[int, str] = {}
    for call in tool_deltas(stream):
        last[call["index"]] = call
        if name := call["function"].pop("name", None):
            names[call["index"]] = name
    for index, call in last.items():
        call["function"]["name"] = names[index]
    return stream


def no_index(stream: list[Chunk]) -> list[Chunk]:
    for call in tool_deltas(stream):
        del call["index"]
    return stream


def reused_index(stream: list[Chunk]) -> list[Chunk]:
    for call in tool_deltas(stream):
        call["index"] = 0
    return stream


def index_from_one(stream: list[Chunk]) -> list[Chunk]:
    for call in tool_deltas(stream):
        call["index"] += 1
    return stream


def interleaved(stream: list[Chunk]) -> list[Chunk]:
    """Fragments of parallel calls take turns."""
    queues: dict[int, list[Chunk]] = {}
    for chunk in stream:
        for call in tool_deltas([chunk]):
            queues.setdefault(call["index"], []).append(chunk)
    taking_turns = []
    while any(queues.values()):
        taking_turns += [queue.pop(0) for queue in queues.values() if queue]
    turns = iter(taking_turns)
    return [next(turns) if carries(chunk, "tool_calls") else chunk for chunk in stream]


def replayed_calls(stream: list[Chunk]) -> list[Chunk]:
    """Every call once more, complete, before the end."""
    last = max((i for i, c in enumerate(stream) if carries(c, "tool_calls")), default=-1)
    copies = whole_calls([twin(chunk) for chunk in stream if carries(chunk, "tool_calls")])
    return [*stream[: last + 1], *copies, *stream[last + 1 :]]


def argument_objects(stream: list[Chunk]) -> list[Chunk]:
    stream = whole_calls(stream)
    for call in tool_deltas(stream):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return stream


def null_arguments(stream: list[Chunk]) -> list[Chunk]:
    stream = whole_calls(stream)
    for call in tool_deltas(stream):
        call["function"]["arguments"] = None
    return stream


def legacy_call(stream: list[Chunk]) -> list[Chunk]:
    """The first call as ``delta.function_call``, the others not at all."""
    kept = []
    for chunk in stream:
        call = next(iter(tool_deltas([chunk])), None)
        if call is None:
            kept.append(chunk)
        elif call["index"] == 0:
            chunk["choices"][0]["delta"] = {"function_call": call["function"]}
            kept.append(chunk)
    for choice in choices(kept):
        if choice["finish_reason"] == "tool_calls":
            choice["finish_reason"] = "function_call"
    return kept


def cumulative(stream: list[Chunk]) -> list[Chunk]:
    """Every delta repeats the whole text so far."""
    for key in ("content", "reasoning_content"):
        so_far = ""
        for delta in deltas(stream):
            if delta.get(key):
                so_far += delta[key]
                delta[key] = so_far
    return stream


def content_parts(stream: list[Chunk]) -> list[Chunk]:
    for delta in deltas(stream):
        if delta.get("content"):
            delta["content"] = [{"type": "text", "text": delta["content"]}]
    return stream


def whole_message(stream: list[Chunk]) -> list[Chunk]:
    """``message`` in the place of ``delta``."""
    for choice in choices(stream):
        choice["message"] = choice.pop("delta")
    return stream


def two_finishes(stream: list[Chunk]) -> list[Chunk]:
    result = []
    for chunk in stream:
        result.append(chunk)
        if chunk["choices"] and chunk["choices"][0]["finish_reason"] is not None:
            result.append(twin(chunk))
    return result


def second_choice(stream: list[Chunk]) -> list[Chunk]:
    """A choice with index 1 beside the one that was asked for."""
    for chunk in stream:
        for choice in twin(chunk)["choices"]:
            other = {"index": 1, "delta": {"content": "not asked for"}}
            chunk["choices"].append(choice | other)
    return stream


def unknown_fields(stream: list[Chunk]) -> list[Chunk]:
    for chunk in stream:
        chunk |= {"x_new": {"deep": [1, None]}, "service_tier": None, "provider": "sim"}
    for delta in deltas(stream):
        delta |= {"annotations": [], "audio": None, "x_new": True}
    return stream
