"""The other endpoint of Model Studio: Responses (qwen.md 2.9).

Only what its documentation lists is looked at, and the rest is ignored: a tool of a kind that it
does not know is as good as not offered.
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from typing import Any

from .answers import Answer, Call, pieces
from .chunks import Chunk
from .refusals import Refusal, invalid_parameter, refusal
from .rules import Body

_PARTS = {"input_text": "text", "output_text": "text", "text": "text"}
_FRAGMENT = 12
_SEARCHES = "search the web"


def check_input(body: Any) -> Refusal | None:
    """The refusal of what Chat has no rule for."""
    if not isinstance(body, dict):
        return refusal(400, "Request body must be a JSON object.")
    if body.get("background"):
        return invalid_parameter("background is not supported", prefix="")
    if body.get("previous_response_id") is not None:
        return refusal(400, "Previous response not found.", code="previous_response_not_found")
    items = body.get("input")
    if not isinstance(items, str | list) or not items:
        return refusal(400, "'input' is a required property")
    known = ("message", "reasoning", "function_call", "function_call_output")
    for index, item in enumerate(items if isinstance(items, list) else []):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind not in known:
            return invalid_parameter(f"Unexpected item type {kind} - 'input.[{index}].type'")
    return None


def as_chat(body: Body) -> Body:
    """The same request on the other endpoint, whose rules and answers it shares."""
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    tools = [_chat_tool(tool) for tool in body.get("tools") or [] if tool["type"] == "function"]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    kept = {"model", "stream", "temperature", "reasoning", "parallel_tool_calls"}
    chat = {key: value for key, value in body.items() if key in kept}
    return {
        **chat,
        "messages": list(_messages(items)),
        **({"tools": tools, "tool_choice": choice or "auto"} if tools else {}),
        "max_tokens": body.get("max_output_tokens"),
        "response_format": _response_format(body),
        "searches": any(tool["type"] == "web_search" for tool in body.get("tools") or []),
    }


def _messages(items: list[Body]) -> Any:
    for kind, group in itertools.groupby(items, key=lambda item: item.get("type", "message")):
        match kind:
            case "function_call":
                yield {"role": "assistant", "content": "", "tool_calls": [*map(_call, group)]}
            case "function_call_output":
                for item in group:
                    yield {
                        "role": "tool",
                        "tool_call_id": item["call_id"],
                        "content": item["output"],
                    }
            case "message":
                for item in group:
                    yield {"role": item["role"], "content": _content(item["content"])}


def _call(item: Body) -> Body:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    parts = []
    for part in content:
        if part["type"] in _PARTS:
            parts.append({"type": "text", "text": part["text"]})
        elif part["type"] == "input_image":
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        else:
            parts.append(part)
    return parts


def _chat_tool(tool: Body) -> Body:
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _response_format(body: Body) -> Body | None:
    wanted = (body.get("text") or {}).get("format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return wanted if isinstance(wanted, dict) else None
    return {"type": "json_schema", "json_schema": wanted}


def response_document(answer: Answer, body: Body) -> Chunk:
    """The answer that is not streamed."""
    return _response(answer, body["model"], _status(answer), _items(answer, body))


def response_events(answer: Answer, body: Body) -> list[Chunk]:
    """The events of a well-behaved stream."""
    model = body["model"]
    items = _items(answer, body)
    id_ = str(uuid.uuid4())

    def snapshot(status: str, output: list[Chunk]) -> Chunk:
        return {**_response(answer, model, status, output), "id": id_}

    stream: list[Chunk] = [
        {"type": "response.created", "response": snapshot("queued", [])},
        {"type": "response.in_progress", "response": snapshot("in_progress", [])},
    ]
    for index, item in enumerate(items):
        stream += _item_events(index, item)
    status = _status(answer)
    if answer.finish_reason is not None:
        stream.append({"type": f"response.{status}", "response": snapshot(status, items)})
    return [{**event, "sequence_number": number} for number, event in enumerate(stream)]


def _status(answer: Answer) -> str:
    cut = answer.finish_reason in ("length", "content_filter")
    return "incomplete" if cut else "completed"


def _response(answer: Answer, model: str, status: str, output: list[Chunk]) -> Chunk:
    over = status in ("completed", "incomplete")
    reason = "content_filter" if answer.finish_reason == "content_filter" else "max_output_tokens"
    return {
        "id": str(uuid.uuid4()),
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "status": status,
        "output": output,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "usage": _usage(answer) if over else None,
    }


def _usage(answer: Answer) -> Chunk:
    counted = answer.usage()
    usage = {
        "input_tokens": counted["prompt_tokens"],
        "output_tokens": counted["completion_tokens"],
        "total_tokens": counted["total_tokens"],
    }
    reasoning = counted["completion_tokens_details"]["reasoning_tokens"]
    return {
        **usage,
        "input_tokens_details": counted["prompt_tokens_details"],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "x_details": [{**usage, "x_billing_type": "response_api"}],
    }


def _items(answer: Answer, body: Body) -> list[Chunk]:
    """The output as it is in the end."""
    items: list[Chunk] = []
    source: list[Chunk] = []
    if body.get("searches") and _SEARCHES in json.dumps(body["messages"][-1]):
        action = {"type": "search", "query": "qwen", "sources": []}
        items.append({"type": "web_search_call", "status": "completed", "action": action})
        source = [{"type": "url_citation", "url": "https://example.com/", "title": "Example"}]
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append({"type": "reasoning", "summary": summary})
    if answer.text or answer.refusal:
        part = (
            {"type": "refusal", "refusal": answer.refusal}
            if answer.refusal
            else {"type": "output_text", "text": answer.text, "annotations": source}
        )
        items.append(
            {"type": "message", "role": "assistant", "status": _status(answer), "content": [part]}
        )
    items += [_call_item(call) for call in answer.calls]
    return [{**item, "id": f"{item['type']}_{uuid.uuid4()}"} for item in items]


def _call_item(call: Call) -> Chunk:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def _item_events(index: int, item: Chunk) -> list[Chunk]:
    where = {"output_index": index, "item_id": item["id"]}
    begun = {**item, "status": "in_progress"}
    match item["type"]:
        case "message":
            begun["content"] = []
            inner = _part_events(where, item["content"][0])
        case "reasoning":
            begun["summary"] = []
            inner = _summary_events(where, item["summary"][0]["text"])
        case "function_call":
            begun["arguments"] = ""
            inner = _argument_events(where, item["arguments"])
        case kind:
            steps = ("in_progress", "searching", "completed")
            inner = [{"type": f"response.{kind}.{step}", **where} for step in steps]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": begun},
        *inner,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _part_events(where: Chunk, part: Chunk) -> list[Chunk]:
    kind = part["type"]
    key = "refusal" if kind == "refusal" else "text"
    place = {**where, "content_index": 0}
    empty = {**part, key: ""} | ({"annotations": []} if kind == "output_text" else {})
    sources = [
        {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation_index": number,
            "annotation": annotation,
        }
        for number, annotation in enumerate(part.get("annotations", []))
    ]
    return [
        {"type": "response.content_part.added", **place, "part": empty},
        *({"type": f"response.{kind}.delta", **place, "delta": p} for p in pieces(part[key])),
        *sources,
        {"type": f"response.{kind}.done", **place, key: part[key]},
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _summary_events(where: Chunk, text: str) -> list[Chunk]:
    place = {**where, "summary_index": 0}
    begin = "response.reasoning_summary"
    part = {"type": "summary_text", "text": text}
    return [
        {"type": f"{begin}_part.added", **place, "part": {**part, "text": ""}},
        *({"type": f"{begin}_text.delta", **place, "delta": piece} for piece in pieces(text)),
        {"type": f"{begin}_text.done", **place, "text": text},
        {"type": f"{begin}_part.done", **place, "part": part},
    ]


def _argument_events(where: Chunk, arguments: str) -> list[Chunk]:
    begin = "response.function_call_arguments"
    cuts = range(0, len(arguments), _FRAGMENT)
    return [
        *(
            {"type": f"{begin}.delta", **where, "delta": arguments[cut : cut + _FRAGMENT]}
            for cut in cuts
        ),
        {"type": f"{begin}.done", **where, "arguments": arguments},
    ]
