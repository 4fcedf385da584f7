"""The frames of a response's events; the hot path of a stream is ``write_delta``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json import JSONEncoder
from json.encoder import encode_basestring
from typing import Final

from qwen_mitm.wire.response_object import JsonObject

encode_json: Final = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


#: A delta and its noise fill blocks of so many bytes.
BLOCK: Final = 16


class DeltaFrame:
    """What is the same in every delta of one text: a stream has thousands of them."""

    def __init__(self, type: str, fields: JsonObject) -> None:  # noqa: A002 - the event's own name
        constant = encode_json(fields)[1:-1]
        # Required on every delta of this type, also where nobody asked for logprobs (§8).
        logprobs = ',"logprobs":[]' if type == "response.output_text.delta" else ""
        self.head = f'event: {type}\ndata: {{"type":"{type}",{constant},"delta":'
        self.tail = f'{logprobs},"sequence_number":'


class EventWriter:
    """Numbers the events of one response from 0 and frames them as server-sent events."""

    def __init__(self) -> None:
        self._frames: list[str] = []
        self._sequence_number = 0

    def write(self, type: str, fields: JsonObject) -> None:  # noqa: A002 - the event's own name
        self.write_encoded(type, encode_json(fields)[1:-1])

    def write_encoded(self, type: str, fields: str) -> None:  # noqa: A002 - the event's own name
        """``fields`` are the members of a JSON object without its braces."""
        number = self._sequence_number
        self._sequence_number = number + 1
        self._frames.append(
            f'event: {type}\ndata: {{"type":"{type}",{fields},"sequence_number":{number}}}\n\n'
        )

    def write_delta(self, frame: DeltaFrame, text: str) -> None:
        number = self._sequence_number
        self._sequence_number = number + 1
        self._frames.append(f"{frame.head}{encode_basestring(text)}{frame.tail}{number}}}\n\n")

    def write_deltas(self, frame: DeltaFrame, texts: Sequence[str]) -> None:
        """``write_delta`` for each of these texts."""
        head, tail, number = frame.head, frame.tail, self._sequence_number
        for text in texts:
            self._frames.append(f"{head}{encode_basestring(text)}{tail}{number}}}\n\n")
            number += 1
        self._sequence_number = number

    def padding(self, text: str) -> JsonObject:
        """Further members of an event with this delta."""
        return {}

    def take(self) -> bytes:
        """All frames since the last call in one piece."""
        frames = self._frames
        if not frames:
            return b""
        text = frames[0] if len(frames) == 1 else "".join(frames)
        self._frames = []
        # Only a lone surrogate has no UTF-8 form; what replaces it here is its JSON escape.
        return text.encode("utf-8", "backslashreplace")


class ObfuscatingWriter(EventWriter):
    """Hides how long a delta is: with noise it fills whole blocks (responses-to-chat §3).

    ``noise`` makes so many random characters, which JSON has no escapes for.
    """

    def __init__(self, noise: Callable[[int], str]) -> None:
        super().__init__()
        self._noise = noise

    def write_delta(self, frame: DeltaFrame, text: str) -> None:
        number = self._sequence_number
        self._sequence_number = number + 1
        encoded = encode_basestring(text)
        noise = self._noise_for(encoded)
        self._frames.append(
            f'{frame.head}{encoded},"obfuscation":"{noise}"{frame.tail}{number}}}\n\n'
        )

    def write_deltas(self, frame: DeltaFrame, texts: Sequence[str]) -> None:
        for text in texts:
            self.write_delta(frame, text)

    def padding(self, text: str) -> JsonObject:
        return {"obfuscation": self._noise_for(encode_basestring(text))}

    def _noise_for(self, encoded: str) -> str:
        return self._noise(-len(encoded.encode("utf-8", "backslashreplace")) % BLOCK)
