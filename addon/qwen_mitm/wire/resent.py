"""Parses a request that begins as an earlier one did, and of its items only those that are new.

Agents send the whole conversation each turn, with a few items more at its end. The items of the
earlier request are used again where its bytes come again.

Why the result is that of ``parse_request``: a body is cut into *head* + *array* + *tail*, where the
array is the value of the top-level ``input``. JSON is read from left to right, and what may follow
at a place depends on nothing but what is before it, so the three can be judged one by one:

- ``head + [] + tail`` is a request whose input is ``[]``, and ``head + 0 + tail`` an object whose
  input is ``0``. The two differ in that place alone, so that place is the value of ``input``,
  whatever else has this name in a tool, in a text or as a key that comes twice.
- The known part of the array is the beginning of one that was parsed, and ends with an item of it.
  What comes next is the end of the array, or a comma and more items, which are parsed as an array.

Where to cut is only guessed. After a wrong guess one of the parts is no JSON or has another form,
and then, as with every fault, ``parse_request`` has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import from_json

from qwen_mitm.wire.input_items import InputItem
from qwen_mitm.wire.responses import ResponsesRequest

#: In an array of one element, so that nothing in it can end the array and begin another, and as
#: deep as an input is in a request: parsers limit the depth.
_ITEMS: Final = TypeAdapter[tuple[tuple[InputItem, ...]]](tuple[tuple[InputItem, ...]])
_BLANKS: Final = b" \t\n\r"
_BEGINNING: Final = re.compile(rb'"input"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
_END: Final = re.compile(
    rb"\](?=[ \t\n\r]*(?:\}[ \t\n\r]*\Z|,[ \t\n\r]*\"(?:%b)\"[ \t\n\r]*:))"
    % "|".join(ResponsesRequest.model_fields).encode()
)
#: Tools may have the name, too.
_MOST_BEGINNINGS: Final = 8
#: What follows the input, most of it tools, is hardly ever longer.
_LONGEST_TAIL: Final = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A request as it was parsed, and the bytes that it was parsed from."""

    head: bytes
    texts: tuple[bytes, ...]
    """The array up to the end of its last item: what each of the turns brought."""
    length: int
    """Of these texts."""
    tail: bytes
    around: ResponsesRequest
    """The request with the input ``[]``."""
    items: tuple[InputItem, ...]

    @property
    def request(self) -> ResponsesRequest:
        return self.around.model_copy(update={"input": self.items})

    @property
    def size(self) -> int:
        return len(self.head) + self.length + len(self.tail)

    def end_in(self, body: bytes, start: int) -> int:
        """Where its items end in an array that begins at ``start``; -1: it begins otherwise."""
        for text in self.texts:
            if not body.startswith(text, start):
                return -1
            start += len(text)
        return start if self.items else -1


class _Cut(NamedTuple):
    """Offsets: of the array, of what follows the known items, of the new ones, of the end."""

    start: int
    known: int
    new: int
    end: int


def read(body: bytes, earlier: Sequence[Reading] = ()) -> tuple[Reading, Reading | None] | None:
    """The request in this body, and which of the earlier ones it continues.

    None: it has a fault, or an input of another form.
    """
    start = _start(body, earlier)
    if start is None:
        return None
    ends = [(one.end_in(body, start), one) for one in earlier]
    known, base = max(ends, key=itemgetter(0), default=(-1, None))
    if known < 0:
        known, base = start, None
    # After the "[" or, of a known array, the comma.
    new = known + 1 if base is None else _after_comma(body, known)
    kin = [one for one in earlier if len(one.head) == start and body.startswith(one.head)]
    for end in _ends(body, new, kin):
        made = _reading(body, _Cut(start, known, new, end), base, kin)
        if made is not None:
            return made, base
    return None


def _start(body: bytes, earlier: Iterable[Reading]) -> int | None:
    """Where the array begins: the best guess."""
    for found in islice(_BEGINNING.finditer(body), _MOST_BEGINNINGS):
        start = found.end()
        if any(len(one.head) == start and body.startswith(one.head) for one in earlier):
            return start
        try:
            from_json(b"%b0}" % body[:start])
        except ValueError:
            continue
        return start
    return None


def _after_comma(body: bytes, place: int) -> int:
    """After a comma here; where there is none, before what is here instead."""
    while body[place : place + 1] in (b" ", b"\t", b"\n", b"\r"):
        place += 1
    return place + 1 if body[place : place + 1] == b"," else place


def _ends(body: bytes, new: int, kin: Iterable[Reading]) -> Iterator[int]:
    """Where the array may end: the best guesses."""
    for one in kin:
        end = len(body) - len(one.tail) - 1
        if end >= new and body[end : end + 1] == b"]" and body.endswith(one.tail):
            yield end
            break
    for found in _END.finditer(body, max(new, len(body) - _LONGEST_TAIL)):
        try:
            from_json(b'{"input":0%b' % body[found.end() :])
        except ValueError:
            continue
        yield found.start()
        break


def _reading(
    body: bytes, cut: _Cut, base: Reading | None, kin: Iterable[Reading]
) -> Reading | None:
    head, tail = body[: cut.start], body[cut.end + 1 :]
    like = next((one for one in kin if one.tail == tail), None)
    try:
        around = _around(head, tail) if like is None else like.around
        if around is None:
            return None
        (items,) = _ITEMS.validate_json(
            b"".join((b"[[", memoryview(body)[cut.new : cut.end], b"]]"))
        )
    except ValueError:
        return None
    if like is not None:
        # One copy of each is enough.
        head, tail = like.head, like.tail
    text = body[cut.known : cut.end].rstrip(_BLANKS)
    if base is None:
        return Reading(
            head=head, texts=(text,), length=len(text), tail=tail, around=around, items=items
        )
    if bool(items) != text.lstrip(_BLANKS).startswith(b","):
        return None
    return replace(
        base,
        head=head,
        texts=(*base.texts, text) if items else base.texts,
        length=base.length + (len(text) if items else 0),
        tail=tail,
        around=around,
        items=(*base.items, *items),
    )


def _around(head: bytes, tail: bytes) -> ResponsesRequest | None:
    """The request around what was cut out; None if that was not its input.

    Raises:
        ValueError: it is no such request.
    """
    around = ResponsesRequest.model_validate_json(b"%b[]%b" % (head, tail))
    other = from_json(b"%b0%b" % (head, tail))
    return around if around.input == () and other.get("input") == 0 else None
