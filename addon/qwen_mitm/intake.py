"""From a client's request to the exchange that answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from qwen_mitm import endpoints
from qwen_mitm.accounts.conversation import conversation_key
from qwen_mitm.exchange import Answer, HeaderFields
from qwen_mitm.providers import GENERIC, Dialect
from qwen_mitm.recent_conversations import RecentConversations, Recollection
from qwen_mitm.relay import Relay
from qwen_mitm.seal import Seal, SealedKind
from qwen_mitm.settings import Settings
from qwen_mitm.state import Expansion, expand
from qwen_mitm.stored_response import ResponseStore
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.compaction import compacted
from qwen_mitm.translate.demands import Demands, demands_of
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft
from qwen_mitm.translate.rendition import ChatRendition, NativeRendition, Rendition
from qwen_mitm.translate.request import translate
from qwen_mitm.turn import Turn
from qwen_mitm.wire.chat import ChatChunk, EndOfAnswer
from qwen_mitm.wire.encoding import decode_body
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import ResponsesRequest

#: Clients that show thoughts as reasoning summaries and in no other form (clients.md).
SUMMARY_READERS = ("ai-sdk", "opencode", "codex")
RECORDING_LIMIT = 4 * 2**20
#: Tokens are counted without an account, so also what not every host takes.
_ANYBODY = replace(GENERIC, takes_files=True, takes_audio=True)
#: A model's answer without a word.
_NOTHING_SAID = ChatChunk.model_validate(
    {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {}}
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A claimed request's head, as the client sent it. ``path`` has the query."""

    method: str
    path: str
    fields: HeaderFields

    def header(self, name: str) -> str:
        wanted = name.encode()
        values = (value for key, value in self.fields if key.lower() == wanted)
        return next(values, b"").decode("latin-1")

    def headers(self) -> dict[str, str]:
        """By lower-case name; of repeated ones the first."""
        pairs = reversed(self.fields)
        return {key.lower().decode("latin-1"): value.decode("latin-1") for key, value in pairs}

    @property
    def upgrades(self) -> bool:
        """It asks for WebSocket mode."""
        return self.for_responses and self.header("upgrade").lower() == "websocket"

    @property
    def for_responses(self) -> bool:
        return self._ends_with("/responses")

    @property
    def for_compaction(self) -> bool:
        return self._ends_with("/responses/compact")

    def _ends_with(self, name: str) -> bool:
        return self.path.partition("?")[0].rstrip("/").endswith(name)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an exchange needs besides the request: time and randomness come from outside."""

    settings: Settings
    clock: Callable[[], float]
    """Seconds, never going back."""
    wall_clock: Callable[[], float]
    """Seconds since 1970."""
    new_id: Callable[[str], str]
    noise: Callable[[int], str]
    """So many random letters, digits, ``-`` and ``_``."""
    seal: Seal
    store: ResponseStore
    recent: RecentConversations
    on_socket: bool = False
    """A turn of WebSocket mode: ``store`` keeps all of them."""


type FirstDialect = Callable[[str, Demands], Dialect]
"""How the host is spoken to that a request for this model will probably be sent to first."""


def begin(
    arrival: Arrival, content: bytes, dialect: FirstDialect, around: Surroundings
) -> Turn | Relay | Answer:
    """The exchange for a request, or an answer that needs none.

    Raises:
        BridgeError: the client's answer instead.
    """
    if (arrival.for_responses or arrival.for_compaction) and arrival.method == "POST":
        return _turn(arrival, content, dialect, around)
    return Relay(
        path=arrival.path,
        client_fields=arrival.fields,
        content=content,
        clock=around.clock,
        heartbeat_s=around.settings.heartbeat_seconds,
        timeout_s=around.settings.upstream_timeout_seconds,
        recording_limit=RECORDING_LIMIT,
    )


def _turn(
    arrival: Arrival, content: bytes, dialect: FirstDialect, around: Surroundings
) -> Turn | Answer:
    settings = around.settings
    body = _decoded(arrival, content, settings)
    request, recollection = around.recent.read(body)
    expansion = expand(request, body, around.store)
    demands = demands_of(expansion.request)

    def keep(response: JsonObject) -> None:
        around.store.save(expansion.stored(response))

    render = partial(_rendition, arrival, request, expansion, recollection, around)
    first = dialect(request.model or "", demands)
    if _warms_up(request, around):
        return _warmed_up(render(first).context, keep)
    form = None
    if arrival.for_compaction:
        # Its answer is no response: nothing goes on from it but what the client sends of it.
        form = partial(compacted, kept=expansion.user_messages())

    return Turn(
        render=render,
        dialect=first,
        model=request.model or "",
        demands=demands,
        stream=bool(request.stream) and form is None,
        longest_wait_s=settings.max_rate_limit_wait_seconds,
        conversation=conversation_key(expansion.request, arrival.headers()),
        client_fields=arrival.fields,
        clock=around.clock,
        heartbeat_s=settings.heartbeat_seconds,
        timeout_s=settings.upstream_timeout_seconds,
        recording_limit=RECORDING_LIMIT,
        on_complete=keep if (expansion.store or around.on_socket) and form is None else None,
        form=form,
    )


def _rendition(
    arrival: Arrival,
    request: ResponsesRequest,
    expansion: Expansion,
    recollection: Recollection,
    around: Surroundings,
    dialect: Dialect,
) -> Rendition:
    """The request for one host."""
    known = recollection.for_host(dialect)
    with expansion.own_indices():
        translation = translate(
            expansion.request,
            profile=dialect.profile,
            wire=dialect.wire,
            unseal=_Opened(around.seal, "thought"),
            unseal_of_host=_OpenedForHost(around.seal, dialect),
            unseal_summary=_Opened(around.seal, "compaction"),
            compact=arrival.for_compaction,
            may_be_empty=_warms_up(request, around),
            past=known.past,
        )
    known.past = translation.past
    # Without it OpenCode and the AI SDK drop the thought from their next request (clients.md).
    sealed = request.store is False or "reasoning.encrypted_content" in (request.include or ())
    summaries = _wants_summaries(request, arrival.header("user-agent"), around.settings)
    context = AnswerContext(
        echo=replace(translation.echo, previous_response_id=expansion.previous_response_id),
        tools=translation.tools,
        reasoning="summary" if summaries else "content",
        new_id=around.new_id,
        clock=around.wall_clock,
        estimated_input_tokens=translation.estimated_input_tokens,
        seal=partial(around.seal.seal, "thought") if sealed else None,
        seal_of_host=partial(_sealed_of_host, around.seal, dialect) if sealed else None,
        seal_summary=partial(around.seal.seal, "compaction") if translation.compacts else None,
        noise=around.noise if _wants_noise(request) else None,
    )
    if dialect.wire == "responses":
        return NativeRendition(translation, dialect.profile, context)
    return ChatRendition(translation, dialect.profile, context, known.texts)


def _sealed_of_host(seal: Seal, dialect: Dialect, encrypted_content: str) -> str:
    """With the name of the host, because others cannot read it and answer 400."""
    return seal.seal("of a host", f"{dialect.profile.name} {encrypted_content}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is sealed as this kind; two of the same seal and kind are equal (see past.py)."""

    seal: Seal
    kind: SealedKind

    def __call__(self, sealed: str) -> str | None:
        return self.seal.unseal(self.kind, sealed)


@dataclass(frozen=True, slots=True)
class _OpenedForHost:
    """What this host encrypted itself."""

    seal: Seal
    dialect: Dialect

    def __call__(self, sealed: str) -> str | None:
        if self.dialect.wire != "responses":
            return None
        name, _, content = (self.seal.unseal("of a host", sealed) or "").partition(" ")
        return content if name == self.dialect.profile.name else None


def _warms_up(request: ResponsesRequest, around: Surroundings) -> bool:
    return around.on_socket and request.generate is False


def _warmed_up(context: AnswerContext, keep: Callable[[JsonObject], None]) -> Answer:
    """Nothing is asked upstream, and the response can be built on (responses-to-chat §13)."""
    assembler = Assembler(context, ResponseDraft(context))
    events = assembler.feed((_NOTHING_SAID, EndOfAnswer()))
    keep(assembler.response())
    return Answer(200, ((b"content-type", b"text/event-stream; charset=utf-8"),), events)


def stored_answer(arrival: Arrival, content: bytes, around: Surroundings) -> Answer | None:
    """The answer to a request for something stored; ``None`` for other requests.

    Raises:
        BridgeError: the client's answer instead.
    """

    def count(request: ResponsesRequest) -> int:
        return translate(request, profile=_ANYBODY, default_model="any").estimated_input_tokens

    body = partial(_decoded, arrival, content, around.settings)
    return endpoints.answer(arrival.method, arrival.path, body, around.store, count)


def _decoded(arrival: Arrival, content: bytes, settings: Settings) -> bytes:
    encoding = arrival.header("content-encoding") or "identity"
    return decode_body(content, encoding, settings.max_body_mb * 2**20)


def _wants_noise(request: ResponsesRequest) -> bool:
    options = request.stream_options
    return bool(request.stream and options is not None and options.include_obfuscation)


def _wants_summaries(request: ResponsesRequest, user_agent: str, settings: Settings) -> bool:
    """responses-to-chat §7.4 and clients.md: thoughts must reach people."""
    if settings.reasoning_events != "auto":
        return settings.reasoning_events == "summary"
    asked = request.reasoning is not None and (
        request.reasoning.summary is not None or request.reasoning.generate_summary is not None
    )
    agent = user_agent.lower()
    return asked or any(name in agent for name in SUMMARY_READERS)
