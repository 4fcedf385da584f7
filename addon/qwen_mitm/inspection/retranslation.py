"""What the translation of today makes of a turn that was recorded, always the same. Pure.

Ids are counted and the clock ticks, so that two runs can be compared.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from qwen_mitm.inspection.answer import events
from qwen_mitm.providers import PROFILES, WEB_CHAT, Dialect
from qwen_mitm.translate.answering import Terms
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft
from qwen_mitm.translate.rendition import ChatRendition, NativeRendition, Rendition
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.chat import Failure
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import parse_request

_SEALED = "sealed:"
_FIRST_SECOND = 1_760_000_000


class Setting(BaseModel):
    """What the translation depends on besides the request and the upstream."""

    model_config = ConfigDict(frozen=True)

    provider: str = "generic"
    form: str = "/chat/completions"
    """The path of the endpoint that the request went to."""
    reasoning: Literal["summary", "content"] = "content"
    seals: bool = False
    compacts: bool = False


@dataclass(frozen=True, slots=True)
class Retranslation:
    body: JsonObject
    """What goes upstream."""
    warnings: str
    events: list[JsonObject]
    """What the client gets."""


def seal(text: str) -> str:
    """Stands in for encryption, so that a transcript can be read anywhere."""
    return f"{_SEALED}{text}"


def unseal(token: str) -> str | None:
    return token.removeprefix(_SEALED) if token.startswith(_SEALED) else None


def retranslated(request: bytes, upstream: bytes, setting: Setting) -> Retranslation:
    """Raises BridgeError when the request is refused."""
    rendition = _rendition(request, setting)
    document = parse_request(request)
    body: JsonObject = json.loads(rendition.body(stream=document.stream is True))
    stream = _answer(rendition, upstream)
    told = [json.loads(event.data) for event in events(stream)]
    return Retranslation(body, rendition.report.header(), told)


def _answer(rendition: Rendition, upstream: bytes) -> bytes:
    answering = rendition.answering(ResponseDraft(rendition.context), Terms(streams=True))
    verdict = answering.offer(upstream) or answering.offer_end()
    maker = answering.maker
    if isinstance(verdict, Failure):
        return maker.start() + maker.fail(verdict)
    return maker.start() + answering.accepted() + answering.end()


def _rendition(request: bytes, setting: Setting) -> Rendition:
    provider = setting.provider
    profile = WEB_CHAT if provider == WEB_CHAT.name else PROFILES[provider]
    document = parse_request(request)
    dialect = Dialect(profile)
    if setting.form == "/responses":
        dialect = profile.dialect("responses", document.model or "")
    translation = translate(
        document,
        profile=dialect.profile,
        wire=dialect.wire,
        unseal=unseal,
        unseal_summary=unseal,
        compact=setting.compacts,
    )
    noise = document.stream_options and document.stream_options.include_obfuscation
    ticks = itertools.count(_FIRST_SECOND)
    context = AnswerContext(
        echo=translation.echo,
        tools=translation.tools,
        reasoning=setting.reasoning,
        new_id=_counted(),
        clock=lambda: float(next(ticks)),
        estimated_input_tokens=translation.estimated_input_tokens,
        seal=seal if setting.seals else None,
        seal_summary=seal if translation.compacts else None,
        noise="x".__mul__ if noise else None,
    )
    made = NativeRendition if dialect.wire == "responses" else ChatRendition
    return made(translation, dialect.profile, context)


def _counted() -> Callable[[str], str]:
    count: Counter[str] = Counter()

    def new_id(prefix: str) -> str:
        count[prefix] += 1
        return f"{prefix}_{count[prefix]}"

    return new_id
