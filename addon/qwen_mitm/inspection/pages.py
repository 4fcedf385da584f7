"""The two pages of a turn: its request and its answer. Pure."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from qwen_mitm.inspection import mapping
from qwen_mitm.inspection.answer import assembled, events
from qwen_mitm.inspection.conversation import conversation, in_words, item_in_words
from qwen_mitm.inspection.record import Link, Record, Try
from qwen_mitm.inspection.timeline import timeline
from qwen_mitm.inspection.wording import (
    WIDTH,
    cut,
    cut_values,
    heading,
    indented,
    listed,
    pretty,
    read_json,
    rule,
    size,
)

#: Characters of each form, and of each raw stream.
LONGEST_FORM: Final = 100_000
LONGEST_RAW: Final = 32_000
_QUOTED: Final = "   │ "


@dataclass(frozen=True, slots=True)
class Turn:
    """All that the pages are made of."""

    record: Record
    line: str
    client: bytes
    """The client's request, decoded; it may be cut."""
    upstream: bytes
    """What the upstream said."""


def request_page(turn: Turn, body: bytes) -> str:
    """``body`` is the request as it is in the flow: what went upstream."""
    record = turn.record
    client, sent = read_json(turn.client), read_json(body)
    if record.refusal is not None or client == sent:
        client, sent = (sent if client is None else client), None
    form = "Responses" if record.form == "/responses" else "Chat"
    sections = [_first(turn), *_refusal(record)]
    sections += [*_mapping(client, sent, record), *_attempts(record)]
    said = conversation(sent) or conversation(client)
    sections += [heading(f"Conversation · {len(said)} messages"), in_words(said)]
    if turn.client or client is not None:
        whole = len(turn.client) or len(body)
        sections += [heading(f"Responses request, from the client · {size(whole)}")]
        sections += [_form(client, turn.client)]
    if sent is not None or (body and client is None):
        sections += [heading(f"{form} request, to the upstream · {size(len(body))}")]
        sections += [_form(sent, body)]
    return "\n\n".join(filter(None, sections)) + "\n"


def answer_page(turn: Turn, body: bytes) -> str:
    """``body`` is the client's answer as it is in the flow."""
    record = turn.record
    answer = assembled(body)
    sections = [_first(turn), *_refusal(record)]
    if record.error is not None:
        sections += [heading("Error"), indented(cut(pretty(record.error)))]
    if answer.output:
        said = [one for item in answer.output for one in item_in_words(item)]
        sections += [heading("Answer"), in_words(said)]
    elif answer.response is not None and record.error is None:
        sections += [heading("Answer"), cut(pretty(cut_values(answer.response)))]
    sections += [*_costs(record), *_attempts(record)]
    if rows := timeline(events(body), record.times):
        sections += [heading("Events, by seconds since the request came"), rows]
    if turn.upstream:
        kept = ", cut" if record.upstream_cut else ""
        title = f"From the upstream · {size(len(turn.upstream))}{kept}"
        sections += [heading(title), _raw(turn.upstream)]
    if body:
        sections += [heading(f"To the client · {size(len(body))}"), _raw(body)]
    return "\n\n".join(filter(None, sections)) + "\n"


def _first(turn: Turn) -> str:
    return listed(turn.line.split(" · "))


def _refusal(record: Record) -> list[str]:
    refusal = record.refusal
    if refusal is None:
        return []
    where = f" (at {refusal.param})" if refusal.param else ""
    title = f"Refused with {refusal.status} {refusal.type}; nothing went upstream"
    return [heading(title), f"{refusal.message}{where}"]


def _attempts(record: Record) -> list[str]:
    if not record.attempts:
        return []
    count = len(record.attempts)
    title = "1 attempt" if count == 1 else f"{count} attempts"
    return [heading(title), "\n".join(_attempt(n, one) for n, one in enumerate(record.attempts, 1))]


def _attempt(number: int, one: Try) -> str:
    came = str(one.status) if one.status is not None else "no answer"
    times = [f"sent at {one.sent_s:.3f} s"]
    if one.head_s is not None:
        times.append(f"head at {one.head_s:.3f} s")
    if one.ended_s is not None:
        times.append(f"given up at {one.ended_s:.3f} s")
    lines = [
        listed([f"{number}. account {one.account}", one.provider, came]),
        f"   {one.url}",
        listed(times, "   "),
    ]
    if one.link is not None:
        lines.append(_link(one.link))
    if one.failure:
        lines.append(f"   {one.failure}")
    if one.error_body:
        said = "\n".join(textwrap.wrap(cut(one.error_body), WIDTH - len(_QUOTED)))
        lines.append(indented(said, _QUOTED))
    return "\n".join(lines)


def _link(link: Link) -> str:
    words = [f"connection to {link.peer}", "reused" if link.reused else "new"]
    if not link.reused and link.tcp_s is not None:
        words.append(f"TCP {link.tcp_s * 1000:.0f} ms")
    if not link.reused and link.tls_s is not None:
        words.append(f"TLS {link.tls_s * 1000:.0f} ms")
    return listed([*words, link.tls, link.alpn], "   ")


def _costs(record: Record) -> list[str]:
    tokens = record.tokens
    if tokens is None:
        return []
    guess = " (estimated: the host did not say)" if tokens.estimated else ""
    lines = [
        f"{tokens.input:,} input, {tokens.cached:,} of them cached",
        f"{tokens.output:,} output, {tokens.reasoning:,} of them reasoning",
    ]
    if record.cost:
        when = f" (prices of {record.priced})" if record.priced else ""
        lines.append(f"{record.cost}{when}")
    return [heading(f"Tokens{guess}"), indented("\n".join(lines))]


def _mapping(client: JsonValue, sent: JsonValue, record: Record) -> list[str]:
    rows = mapping.fields(client, sent, record)
    sections = [heading("What became of the request: Responses → upstream"), mapping.table(rows)]
    if losses := list(mapping.losses(record)):
        sections += [rule("dropped or added"), mapping.table(losses)]
    if tools := list(mapping.tools(record.tools)):
        sections += [rule("tools"), mapping.table(tools)]
    return sections if rows or losses or tools else []


def _form(parsed: JsonValue, raw: bytes) -> str:
    if parsed is None:
        return _raw(raw)
    return cut(pretty(cut_values(parsed)), LONGEST_FORM)


def _raw(data: bytes) -> str:
    # What is left out need not be decoded.
    if len(data) > 2 * LONGEST_RAW:
        left_out = len(data) - 2 * LONGEST_RAW
        head, tail = data[:LONGEST_RAW], data[-LONGEST_RAW:]
        notice = f"\n[… {left_out:,} bytes left out here …]\n".encode()
        data = head + notice + tail
    return data.decode("utf-8", "replace").rstrip()
