"""Content parts of messages and of tool outputs, as clients send them (responses-to-chat §6)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from qwen_mitm.wire.request_tools import AnyObject


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(Wire):
    type: Literal["input_text", "output_text", "text"]
    text: str


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: str


class ImagePart(Wire):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None


class FilePart(Wire):
    type: Literal["input_file"]
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None


class AudioPart(Wire):
    type: Literal["input_audio"]
    input_audio: AnyObject


# Not a `type`: within one, pydantic 2.11.0 does not heed the discriminator.
ContentPart = Annotated[
    TextPart | ImagePart | FilePart | AudioPart | RefusalPart, Field(discriminator="type")
]
type Content = str | tuple[ContentPart, ...]
type Role = Literal["user", "assistant", "system", "developer"]
