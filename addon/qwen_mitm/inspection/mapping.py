"""What became of each field, tool and item of a Responses request on its way upstream. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pydantic import JsonValue

from qwen_mitm.inspection.record import NamedTool, Record
from qwen_mitm.inspection.wording import cut_string

type Json = dict[str, JsonValue]


class Row(NamedTuple):
    """``here`` became ``there``."""

    here: str
    there: str
    how: str


#: Where a field of Responses may be found in what goes upstream, beside its own name.
_PLACES: Final[dict[str, tuple[str, ...]]] = {
    "input": ("messages",),
    "instructions": ("messages", "input"),
    "max_output_tokens": ("max_tokens", "max_completion_tokens"),
    "text": ("response_format", "verbosity"),
    "reasoning": ("enable_thinking", "reasoning_effort", "thinking_budget", "chat_template_kwargs"),
    "include": ("logprobs",),
    "tools": ("enable_search",),
}
_ANSWERED_HERE: Final = {
    "store": "the response is kept here, or not; hosts are not asked to",
    "previous_response_id": "the conversation so far was put in front of the input",
    "include": "decides what the answer holds",
    "metadata": "repeated in the answer",
    "prompt_cache_key": "tells the conversation, so that it can stay on one account",
    "prompt_cache_retention": "repeated in the answer",
    "client_metadata": "a hint that asks for nothing in the answer",
    "safety_identifier": "repeated in the answer",
    "user": "repeated in the answer",
    "service_tier": "repeated in the answer",
    "truncation": "repeated in the answer",
    "max_tool_calls": "repeated in the answer",
    "stream_options": "decides what the answer holds",
    "reasoning": "decides the events of the answer",
    "text": "nothing but what is the default",
    "parallel_tool_calls": "there are no tools, or the host has no such field",
}
_REASONS: Final = {
    "dropped_tool": "dropped: it runs at OpenAI, and this host has none like it",
    "duplicate_tool": "dropped: another tool has this name",
    "dropped_field": "dropped: this host has nothing like it",
    "dropped_item": "dropped: it means something to OpenAI alone",
    "dropped_content": "dropped: this host cannot take or read it",
    "added_message": "added: this host wants a message of this role",
    "added_text": "added: this host wants the word in the prompt",
}
_WIDEST: Final = 30


def fields(request: JsonValue, upstream: JsonValue, record: Record) -> list[Row]:
    """One row for each field of the client's request, and for each that only the host gets."""
    if not isinstance(request, dict) or not isinstance(upstream, dict):
        return []
    dropped = {name for code, name in record.losses if code == "dropped_field"}
    used: set[str] = set()
    rows = []
    for name, value in request.items():
        if value is None:
            continue
        found = [place for place in (name, *_PLACES.get(name, ())) if place in upstream]
        used.update(found)
        there = ", ".join(f"{place} {_shown(upstream[place])}" for place in found)
        how = _how(name, value, found, upstream, dropped)
        rows.append(Row(f"{name} {_shown(value)}", there, how))
    added = (name for name in upstream if name not in used)
    rows += [Row("", f"{name} {_shown(upstream[name])}", "added for this host") for name in added]
    return rows


def _how(name: str, value: JsonValue, found: list[str], upstream: Json, dropped: set[str]) -> str:
    if name in dropped:
        return _REASONS["dropped_field"]
    if not found:
        return _ANSWERED_HERE.get(name, "not sent: this host has nothing like it")
    if name not in found:
        return "mapped"
    return "as it is" if upstream[name] == value else "rewritten"


def losses(record: Record) -> Iterator[Row]:
    """What else was dropped or added, and why."""
    for code, what in record.losses:
        if code != "dropped_field":
            yield Row(what, "", _REASONS.get(code, code))


def tools(named: Iterable[NamedTool]) -> Iterator[Row]:
    """Tools that go by another name, or that are no functions for the client."""
    for tool in named:
        own = f"{tool.namespace}.{tool.name}" if tool.namespace else tool.name
        how = "renamed" if tool.kind == "function" else f"a {tool.kind} tool, as a function"
        yield Row(own, tool.flat, how)


def table(rows: Iterable[Row]) -> str:
    """Columns: in Responses, upstream, how."""
    rows = list(rows)
    cells = [(_cell(row.here), _cell(row.there)) for row in rows]
    left, right = (max([0, *(len(row[i]) for row in cells)]) for i in (0, 1))
    return "\n".join(
        f"  {here:<{left}}  {'→' if there else ' '} {there:<{right}}  {row.how}".rstrip()
        for (here, there), row in zip(cells, rows, strict=True)
    )


def _cell(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _shown(value: JsonValue) -> str:
    match value:
        case list():
            return f"[{len(value)}]"
        case dict():
            return f"{{{', '.join(value)}}}"
        case str():
            return repr(cut_string(value)[:_WIDEST])
        case bool():
            return str(value).lower()
    return str(value)
