"""The conversation of a request as a person reads it, from either form. Pure.

It takes any JSON: bodies may have been edited by hand, and those of other hosts look different.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from qwen_mitm.inspection.wording import (
    arguments_in_words,
    cut,
    cut_values,
    decoded_size,
    file_in_words,
    indented,
    pretty,
    rule,
    size,
)

type Json = dict[str, JsonValue]

#: Messages at the beginning and at the end that are shown of a long conversation.
FIRST: Final = 6
LAST: Final = 60


@dataclass(frozen=True, slots=True)
class Said:
    """One message. ``who`` is a role, with what else tells it apart."""

    who: str
    text: str


def conversation(body: JsonValue) -> list[Said]:
    """What a Chat or Responses request says; nothing for another one."""
    match body:
        case {"messages": list(messages)}:
            return [said for message in messages for said in _of_chat(message)]
        case {"input": given, **rest}:
            system = rest.get("instructions")
            first = [Said("instructions", cut(system))] if isinstance(system, str) else []
            if isinstance(given, str):
                return [*first, Said("user", cut(given))]
            items = given if isinstance(given, list) else []
            return [*first, *(said for item in items for said in _of_item(item))]
    return []


def in_words(said: list[Said]) -> str:
    """The messages one after another; of a long conversation the beginning and the end."""
    skipped = len(said) - FIRST - LAST
    if skipped <= 1:
        return "\n\n".join(map(_message, said))
    notice = f"[… {skipped:,} messages left out here; the raw request has them …]"
    first, last = said[:FIRST], said[-LAST:]
    return "\n\n".join([*map(_message, first), notice, *map(_message, last)])


def item_in_words(item: JsonValue) -> list[Said]:
    """An item of a Responses request or answer."""
    return list(_of_item(item))


def _message(said: Said) -> str:
    return f"{rule(said.who)}\n{said.text}"


# Chat ------------------------------------------------------------------------------------------


def _of_chat(message: JsonValue) -> Iterator[Said]:
    if not isinstance(message, dict):
        yield Said("?", cut(pretty(message)))
        return
    role = str(message.get("role", "?"))
    parts = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        parts.append(f"(thinks)\n{indented(cut(thought))}")
    parts += _content(message.get("content"))
    calls = message.get("tool_calls")
    parts += [_chat_call(call) for call in (calls if isinstance(calls, list) else [])]
    if role == "tool":
        role = f"tool, answering {message.get('tool_call_id')}"
    yield Said(role, "\n".join(parts))


def _chat_call(call: JsonValue) -> str:
    match call:
        case {"function": {"name": name, "arguments": arguments}, **rest}:
            return _call(str(name), rest.get("id"), arguments)
    return cut(pretty(call))


def _call(name: str, call_id: object, arguments: JsonValue) -> str:
    return f"→ calls {name} ({call_id})\n{indented(arguments_in_words(arguments))}"


def _content(content: JsonValue) -> list[str]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [cut(content)]
    parts = content if isinstance(content, list) else [content]
    return [_part(part) for part in parts]


def _part(part: JsonValue) -> str:
    match part:
        case {"text": str(text)} | {"refusal": str(text)}:
            return cut(text)
        case {"image_url": {"url": url}} | {"image_url": url}:
            return file_in_words("image", url)
        case {"input_audio": {"data": str(data), "format": kind}}:
            return f"[audio {kind}, {size(decoded_size(data))}]"
        case {"file": {"file_data": data}} | {"file_data": data}:
            return file_in_words("file", data)
    return cut(pretty(cut_values(part)))


# Responses -------------------------------------------------------------------------------------


def _of_item(item: JsonValue) -> Iterator[Said]:
    if not isinstance(item, dict):
        yield Said("?", cut(pretty(item)))
        return
    kind = item.get("type", "message")
    match kind:
        case "message":
            yield Said(str(item.get("role", "?")), "\n".join(_content(item.get("content"))))
        case "reasoning":
            yield Said("assistant, thinking", _thought(item))
        case "function_call" | "custom_tool_call":
            name = ".".join(str(item[key]) for key in ("namespace", "name") if item.get(key))
            given = item.get("arguments", item.get("input"))
            yield Said("assistant", _call(name, item.get("call_id"), given))
        case "function_call_output" | "custom_tool_call_output":
            said = "\n".join(_content(item.get("output")))
            yield Said(f"tool, answering {item.get('call_id')}", said)
        case _:
            # Of the answer of a tool, and not of the thoughts of a model.
            yield Said(str(kind), cut(pretty(cut_values(item))))


def _thought(item: Json) -> str:
    texts: list[str] = []
    for key in ("summary", "content"):
        parts = item.get(key)
        texts += [_part(part) for part in (parts if isinstance(parts, list) else [])]
    sealed = item.get("encrypted_content")
    if isinstance(sealed, str) and sealed and not texts:
        texts.append(f"[encrypted, {size(len(sealed))}]")
    return "\n".join(texts)
