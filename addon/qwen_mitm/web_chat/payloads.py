"""What chat.qwen.ai is sent, field by field (web-chat.md §3, §4). Pure.

Times and ids are arguments. A chat is created with a time in ms, a message has it in seconds.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    computed_field,
    model_serializer,
)

from qwen_mitm.wire.configuration import Effort

from .events import validate_parent_id

type ChatMode = Literal["guest", "normal", "local"]

#: Of the site's own interface; since 2026 a request without it is a Bad_Request (web-chat.md §2).
INTERFACE_VERSION: Final = "0.2.66"
_THINKING_BUDGET: Final[dict[str, int]] = {"minimal": 1024, "low": 1024, "medium": 8192}
#: So much of a conversation's key names its chat.
_TITLE_DIGITS: Final = 8

_ParentId = Annotated[str | None, AfterValidator(validate_parent_id)]
_Chat = Literal["t2t"]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True)

    optional: ClassVar[frozenset[str]] = frozenset()
    """Fields that are not sent when they are None; ``parent_id`` is sent as null."""

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        document: dict[str, object] = serialize(self)
        return {k: v for k, v in document.items() if v is not None or k not in self.optional}

    def encoded(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()


class NewChat(_Payload):
    """Creates a chat; ``timestamp`` is in ms."""

    title: str
    models: tuple[str, ...]
    chat_mode: ChatMode
    chat_type: _Chat = "t2t"
    timestamp: int


class FeatureConfig(_Payload):
    """``output_schema`` makes the site tell thoughts from answers.

    The site's own tools are off: the client's are the only ones that a turn may use.
    """

    optional = frozenset({"thinking_budget"})

    thinking_enabled: bool
    output_schema: Literal["phase"] = "phase"
    research_mode: Literal["normal"] = "normal"
    auto_thinking: bool = False
    thinking_mode: Literal["Auto", "Disabled"]
    thinking_format: Literal["summary"] = "summary"
    thinking_budget: int | None = None
    auto_search: bool = False
    code_interpreter: bool = False
    function_calling: bool = False
    plugins_enabled: bool = False


class Meta(_Payload):
    sub_chat_type: _Chat = Field(default="t2t", serialization_alias="subChatType")


class Extra(_Payload):
    meta: Meta = Meta()


class Message(_Payload):
    """The one message of a request; ``timestamp`` is in seconds."""

    fid: str
    parent_id: _ParentId
    children_ids: tuple[str, ...] = Field(default=(), serialization_alias="childrenIds")
    role: Literal["user"] = "user"
    content: str
    user_action: Literal["chat"] = "chat"
    files: tuple[str, ...] = ()
    timestamp: int
    models: tuple[str, ...]
    chat_type: _Chat = "t2t"
    sub_chat_type: _Chat = "t2t"
    feature_config: FeatureConfig
    extra: Extra = Extra()

    @computed_field(alias="parentId")  # type: ignore[prop-decorator]  # python/mypy#14461
    @property
    def parent_id_once_more(self) -> str | None:
        """The site wants the parent in both spellings."""
        return self.parent_id


class Completion(_Payload):
    """Sends one message to a chat; ``timestamp`` is in seconds.

    The site streams whatever is asked for, and ignores the sampling parameters.
    """

    optional = frozenset({"temperature", "top_p", "max_tokens"})

    stream: Literal[True] = True
    version: Literal["2.1"] = "2.1"
    incremental_output: Literal[True] = True
    chat_id: str
    chat_mode: ChatMode
    model: str
    parent_id: _ParentId
    messages: tuple[Message]
    timestamp: int
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


def create_chat_payload(*, key: str, model: str, chat_mode: ChatMode, now_ms: int) -> NewChat:
    """``key`` is that of the conversation, and names the chat."""
    title = f"Conversation {key[:_TITLE_DIGITS]}"
    return NewChat(title=title, models=(model,), chat_mode=chat_mode, timestamp=now_ms)


def create_qwen_message(
    content: str,
    *,
    model: str,
    parent_id: str | None,
    fid: str,
    now_s: int,
    effort: Effort | None = None,
) -> Message:
    """``fid`` is a new UUID.

    Raises:
        ValueError: ``parent_id`` is no UUID.
    """
    thinks = effort not in (None, "none")
    config = FeatureConfig(
        thinking_enabled=thinks,
        thinking_mode="Auto" if thinks else "Disabled",
        thinking_budget=_THINKING_BUDGET.get(effort) if effort else None,
    )
    return Message(
        fid=fid,
        parent_id=parent_id,
        content=content,
        timestamp=now_s,
        models=(model,),
        feature_config=config,
    )


def create_completion_payload(
    message: Message,
    *,
    chat_id: str,
    chat_mode: ChatMode,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
) -> Completion:
    """The request that sends this message to that chat."""
    return Completion(
        chat_id=chat_id,
        chat_mode=chat_mode,
        model=message.models[0],
        parent_id=message.parent_id,
        messages=(message,),
        timestamp=message.timestamp,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
    )
