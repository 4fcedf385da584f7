"""Content parts of messages and tool outputs (responses-to-chat §6)."""

from __future__ import annotations

from typing import assert_never

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.providers import Profile
from qwen_mitm.wire.chat_request import ChatAudio, ChatFile, ChatImage, ChatPart, ChatText
from qwen_mitm.wire.content import (
    AudioPart,
    Content,
    ContentPart,
    FilePart,
    ImagePart,
    RefusalPart,
    TextPart,
)


def chat_parts(content: Content, where: str, profile: Profile) -> tuple[ChatPart, ...]:
    """The parts of a user message or of a tool's output; ``where`` is the JSON path of them."""
    if isinstance(content, str):
        return (ChatText(content),)
    return tuple(
        _chat_part(part, f"{where}[{index}]", profile) for index, part in enumerate(content)
    )


def plain_texts(content: Content, where: str) -> list[str]:
    """The texts of a message that can hold nothing else."""
    if isinstance(content, str):
        return [content]
    texts: list[str] = []
    for index, part in enumerate(content):
        match part:
            case TextPart():
                texts.append(part.text)
            case RefusalPart():
                texts.append(part.refusal)
            case ImagePart() | FilePart() | AudioPart():
                raise InvalidRequest(
                    f"A part of type '{part.type}' is only possible in a user message or in the "
                    "output of a tool. Send it there.",
                    param=f"{where}[{index}].type",
                )
            case _:
                assert_never(part)
    return texts


def _chat_part(part: ContentPart, where: str, profile: Profile) -> ChatPart:
    match part:
        case TextPart():
            return ChatText(part.text)
        case RefusalPart():
            return ChatText(part.refusal)
        case ImagePart():
            return _image(part, where)
        case FilePart():
            return _file(part, where, profile)
        case AudioPart():
            return ChatAudio(part.input_audio)
        case _:
            assert_never(part)


def _image(part: ImagePart, where: str) -> ChatImage:
    if part.image_url:
        return ChatImage(part.image_url, "high" if part.detail == "original" else part.detail)
    if part.file_id is not None:
        raise InvalidRequest(
            "Images by file_id are not supported: there is no file store here. Send the image as "
            "'image_url', a URL or a data URL.",
            param=f"{where}.file_id",
        )
    raise InvalidRequest(
        f"Missing required parameter: '{where}.image_url'.", param=f"{where}.image_url"
    )


def _file(part: FilePart, where: str, profile: Profile) -> ChatFile:
    if part.file_data is not None and profile.takes_files:
        return ChatFile(part.file_data, part.filename)
    field = "file_data" if part.file_data is not None else "file_id" if part.file_id else "file_url"
    raise InvalidRequest(
        f"Files as '{field}' are not supported by this host. Send the text of the file as "
        "input_text, or its pages as input_image.",
        param=f"{where}.{field}",
    )
