"""What a request needs that not every host takes: it goes to an account whose host does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from qwen_mitm.providers import Dialect
from qwen_mitm.translate.tools import hosted_name
from qwen_mitm.wire.content import AudioPart, ContentPart, FilePart, ImagePart, TextPart
from qwen_mitm.wire.input_items import FunctionCallOutput, Message
from qwen_mitm.wire.request_tools import CLIENT_TOOLS, BuiltInChoice
from qwen_mitm.wire.responses import ResponsesRequest

# A file is refused where it is not taken, and audio is left out. To be refused is worse than all
# that can be left out.
_REFUSED: Final = 3
_LEFT_OUT: Final = 1


@dataclass(frozen=True, slots=True)
class Demands:
    files: bool = False
    audio: bool = False
    images: bool = False
    forced: str | None = None
    """A tool of the host's own that the model must use."""
    passing: bool = False
    """It is to pass as it is: a request to another path."""

    def __bool__(self) -> bool:
        return self != _NOTHING

    def unmet(self, dialect: Dialect) -> int:
        """How badly this host serves the request; 0: it takes all of it."""
        files = _REFUSED if self.files and not dialect.profile.takes_files else 0
        forced = _REFUSED if self.forced and not dialect.may_be_forced_to(self.forced) else 0
        passing = _REFUSED if self.passing and not dialect.profile.has_other_paths else 0
        left_out = [
            self.audio and not dialect.profile.takes_audio,
            self.images and not dialect.profile.takes_images,
        ]
        return files + forced + passing + _LEFT_OUT * sum(left_out)


_NOTHING: Final = Demands()


def demands_of(request: ResponsesRequest) -> Demands:
    """The demands of a request; files by id or URL are none, because no host takes them."""
    # Nearly all parts are texts, and there may be thousands.
    parts = [part for part in _parts(request) if type(part) is not TextPart]
    return Demands(
        files=any(isinstance(part, FilePart) and part.file_data is not None for part in parts),
        audio=any(isinstance(part, AudioPart) for part in parts),
        images=any(isinstance(part, ImagePart) for part in parts),
        forced=_forced(request),
    )


def _forced(request: ResponsesRequest) -> str | None:
    choice = request.tool_choice
    if not isinstance(choice, BuiltInChoice) or choice.type in CLIENT_TOOLS:
        return None
    return hosted_name(choice.type)


def _parts(request: ResponsesRequest) -> Iterator[ContentPart]:
    for item in request.input if isinstance(request.input, tuple) else ():
        if isinstance(item, Message):
            content = item.content
        elif isinstance(item, FunctionCallOutput):
            content = item.output
        else:
            continue
        if not isinstance(content, str):
            yield from content
