"""Where requests to the site go, and what they carry, whoever sends them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from qwen_mitm import __version__
from qwen_mitm.wire.chat_request import ChatRequest

from .credentials import Credentials
from .payloads import (
    INTERFACE_VERSION,
    ChatMode,
    Completion,
    create_completion_payload,
    create_qwen_message,
)

NEW_PATH: Final = "/api/v2/chats/new"
COMPLETIONS_PATH: Final = "/api/v2/chat/completions"
MODELS_PATH: Final = "/api/models"


def completion_target(chat_id: str) -> str:
    return f"{COMPLETIONS_PATH}?chat_id={quote(chat_id, safe='')}"


def request_headers(credentials: Credentials, *, streams: bool) -> dict[str, str]:
    """All that the site is sent besides the body; the credentials are among them."""
    return {
        **credentials.headers(),
        "content-type": "application/json",
        "accept": "text/event-stream" if streams else "application/json",
        "accept-encoding": "identity",
        "user-agent": f"qwen-mitm/{__version__}",
        "version": INTERFACE_VERSION,
    }


def chat_mode(credentials: Credentials) -> ChatMode:
    return "guest" if credentials.jwt is None else "normal"


def completion_payload(
    chat: ChatRequest,
    credentials: Credentials,
    content: str,
    *,
    chat_id: str,
    parent_id: str | None,
    fid: str,
    now_s: int,
) -> Completion:
    """The message that says ``content``, with what the request wants of its answer."""
    message = create_qwen_message(
        content, model=chat.model, parent_id=parent_id, fid=fid, now_s=now_s, effort=chat.effort
    )
    return create_completion_payload(
        message,
        chat_id=chat_id,
        chat_mode=chat_mode(credentials),
        temperature=chat.temperature,
        top_p=chat.top_p,
        max_tokens=chat.max_tokens,
    )
