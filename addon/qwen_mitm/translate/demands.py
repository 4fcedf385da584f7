"""What a request needs that not every host takes: it goes to an account whose host does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from qwen_mitm.providers import Dialect
from qwen_mitm.wire.content import AudioPart, ContentPart, FilePart
from qwen_mitm.wire.input_items import FunctionCallOutput, Message
from qwen_mitm.wire.responses import ResponsesRequest

# A file is refused where it is not taken, and audio is left out.
_REFUSED: Final = 2
_LEFT_OUT: Final = 1


@dataclass(frozen=True, slots=True)
class Demands:
    files: bool = False
    audio: bool = False

    def __bool__(self) -> bool:
        return self.files or self.audio

    def unmet(self, dialect: Dialect) -> int:
        """How badly this host serves the request; 0: it takes all of it."""
        files = _REFUSED if self.files and not dialect.takes_files else 0
        return files + (_LEFT_OUT if self.audio and not dialect.takes_audio else 0)


def demands_of(request: ResponsesRequest) -> Demands:
    """The demands of a request; files by id or URL are none, because no host takes them."""
    files = audio = False
    for part in _parts(request):
        files = files or (isinstance(part, FilePart) and part.file_data is not None)
        audio = audio or isinstance(part, AudioPart)
    return Demands(files, audio)


def _parts(request: ResponsesRequest) -> Iterator[ContentPart]:
    for item in request.input if isinstance(request.input, tuple) else ():
        match item:
            case Message(content=tuple(parts)) | FunctionCallOutput(output=tuple(parts)):
                yield from parts
