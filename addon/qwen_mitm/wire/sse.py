"""Server-sent events: bytes to events and back.

The decoder follows https://html.spec.whatwg.org/multipage/server-sent-events.html with two
deliberate differences: a last event without its blank line is delivered by ``end()``, because
hosts leave that line out after ``[DONE]`` (responses-to-chat §9), and ``data`` stays bytes, because
the JSON parser wants bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Far above any real chunk (a whole answer in one event is a few MB), far below trouble."""

DONE: Final = b"data: [DONE]\n\n"

_BOM: Final = b"\xef\xbb\xbf"
# As numbers: a byte is found eight times faster than a bytes object of one byte.
_CR: Final = 13
_LF: Final = 10


class ServerSentEvent(NamedTuple):
    """One dispatched event; ``data`` is as it came, not checked to be UTF-8."""

    data: bytes
    type: str = "message"
    id: str = ""


class EventStreamDecoder:
    """Takes the bytes of an event stream in pieces of any size, gives events as they complete."""

    def __init__(self) -> None:
        self.overflowed = False
        """An event grew beyond MAX_EVENT_BYTES; it and all that follows are not decoded."""
        self.retry: int | None = None
        """The reconnection time in ms that the server last asked for."""
        self._at_start = True
        self._after_cr = False
        self._line = bytearray()
        """A line whose end has not come yet."""
        self._data: list[bytes] = []
        self._data_size = 0
        """The length of the lines that ``_data`` came from."""
        self._type = ""
        self._id = ""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete; never waits for a byte that follows an event."""
        if self._at_start or self._after_cr or self.overflowed:
            data = self._beginning(data)
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if _LF not in data:
            self._hold(data)
            return []
        if self._line:
            data = bytes(self._line) + data
            self._line.clear()
        lines = data.split(b"\n")
        rest = lines.pop()
        events = self._decode(lines)
        if rest:
            self._hold(rest)
        return events

    @property
    def idle(self) -> bool:
        """Whether the next byte is the first of an event."""
        return not (self._line or self._data or self._type or self._after_cr or self.overflowed)

    def end(self) -> list[ServerSentEvent]:
        """The last event, if its blank line (or its line end) is missing."""
        held = bytes(self._line)
        self._line.clear()
        # Fewer than three bytes at the very start were held back as a possible byte order mark.
        self._at_start = False
        return self._decode([held, b""])

    def _beginning(self, data: bytes) -> bytes:
        """What is left of ``data`` without a byte order mark or the LF of a CRLF cut in two."""
        if self.overflowed:
            return b""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if self._at_start:
            data = bytes(self._line) + data
            self._line.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._hold(data)
                return b""
            self._at_start = False
            data = data.removeprefix(_BOM)
        return data

    def _hold(self, piece: bytes) -> None:
        if self._data_size + len(self._line) + len(piece) > MAX_EVENT_BYTES:
            self._overflow()
        if not self.overflowed:
            self._line += piece

    def _overflow(self) -> None:
        self.overflowed = True
        self._line.clear()
        self._data = []
        self._data_size = 0

    def _decode(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for line in lines:
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append(ServerSentEvent(data, self._type or "message", self._id))
                    self._data = []
                    self._data_size = 0
                self._type = ""
                continue
            if self._data_size + len(line) > MAX_EVENT_BYTES:
                self._overflow()
                break
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
                self._data_size += len(line)
            else:
                self._field(line)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._data_size += len(line)
            case b"event":
                self._type = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit():
                self.retry = int(value[:15])
            case _:
                pass  # comments and unknown fields


def encode_event(type: str, data: bytes) -> bytes:  # noqa: A002 - the name of the field in the event
    """One event; ``data`` is JSON without line breaks."""
    return b"event: %b\ndata: %b\n\n" % (type.encode(), data)


def encode_comment(text: str) -> bytes:
    """A comment of one line, which every client skips."""
    return b": %b\n\n" % text.encode()


KEEP_ALIVE: Final = encode_comment("keep-alive")
