"""What is kept of a turn in its flow, and in saved files: bounded and nothing secret. Pure."""

from __future__ import annotations

from typing import Final, Literal

import zstandard
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from qwen_mitm import __version__
from qwen_mitm.errors import BridgeError
from qwen_mitm.journey import AttemptRecord
from qwen_mitm.turn import Turn

#: Bytes of the client's request that are kept, before compression.
REQUEST_LIMIT: Final = 8 * 2**20
MOST_TIMES: Final = 1_000
_MOST_TOOLS: Final = 500
#: No body that is kept unpacks to more.
_UNPACKED_LIMIT: Final = 16 * 2**20


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Link(Part):
    """The connection to the upstream. Times are seconds that each step took."""

    peer: str = ""
    reused: bool = False
    tcp_s: float | None = None
    tls_s: float | None = None
    tls: str = ""
    alpn: str = ""


class Try(Part):
    """An attempt. Times are seconds since the request came."""

    account: str = ""
    provider: str = ""
    url: str = ""
    status: int | None = None
    failure: str | None = None
    sent_s: float = 0.0
    head_s: float | None = None
    ended_s: float | None = None
    error_body: str = ""
    link: Link | None = None


class NamedTool(Part):
    """A tool that goes by another name upstream, or by another kind."""

    flat: str
    kind: str
    namespace: str | None = None
    name: str


class Refusal(Part):
    """The error that answered the client without an upstream."""

    status: int
    type: str = ""
    message: str
    param: str | None = None
    code: str | None = None


class Tokens(Part):
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False


class Record(Part):
    """A turn that is over, or was when this was made. Times are seconds since it began."""

    version: str = __version__
    model: str = ""
    streams: bool = False
    form: str = ""
    """The path of the endpoint upstream, which tells the form of the request."""
    attempts: list[Try] = Field(default_factory=list)
    status: str = ""
    failure: str | None = None
    """What ended it, where that is not an end of the response."""
    error: JsonValue = None
    incomplete: JsonValue = None
    tokens: Tokens | None = None
    usage_is_estimated: bool = False
    cost: str = ""
    priced: str = ""
    """The date of the prices."""
    warnings: str = ""
    losses: list[tuple[str, str]] = Field(default_factory=list)
    tools: list[NamedTool] = Field(default_factory=list)
    first_token_s: float | None = None
    ended_s: float = 0.0
    times: list[tuple[int, float]] = Field(default_factory=list)
    """Up to which byte of the client's answer what had come when."""
    upstream_cut: bool = False
    edited: bool = False
    """A person changed the request before it was sent."""
    refusal: Refusal | None = None
    reasoning: Literal["summary", "content"] = "content"
    seals: bool = False
    compacts: bool = False

    @property
    def account(self) -> str:
        return self.attempts[-1].account if self.attempts else ""

    @property
    def failovers(self) -> int:
        return max(0, len(self.attempts) - 1)

    @property
    def failed(self) -> bool:
        return self.failure is not None or self.refusal is not None or self.status == "failed"

    def as_metadata(self) -> dict[str, JsonValue]:
        """For ``flow.metadata``: JSON-like values."""
        return self.model_dump(mode="json")


class Packed(bytes):
    """Bytes that are shown by their size: mitmproxy's console prints all metadata."""

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes, packed>"


def pack(body: bytes) -> Packed:
    return Packed(zstandard.compress(body, 1))


def unpack(packed: object) -> bytes:
    """What was packed; nothing when that is not what it is."""
    if not isinstance(packed, bytes) or not packed:
        return b""
    try:
        found: bytes = zstandard.ZstdDecompressor().decompress(packed, _UNPACKED_LIMIT)
    except zstandard.ZstdError:
        return b""
    return found


def read_record(metadata: object) -> Record | None:
    """The record that a flow holds; None for flows of others, and for what is no record."""
    try:
        return Record.model_validate(metadata)
    except ValidationError:
        return None


def refused(error: BridgeError) -> Record:
    """Of a request that got an error from here, and nothing of which went upstream."""
    refusal = Refusal(
        status=error.status,
        type=error.type,
        message=error.message,
        param=error.param,
        code=error.code,
    )
    return Record(status="refused", refusal=refusal)


def record_of(turn: Turn, failure: str | None = None) -> Record:
    """A turn as it is now; ``failure`` is what ended it, when its answer does not say so."""
    response = turn.assembler.response()
    rendition = turn.rendition
    began = turn.began_at
    answered = turn.first_event_at
    estimated = turn.summary()["usage_is_estimated"] is True
    return Record(
        model=turn.model,
        streams=turn.streams,
        form=rendition.path,
        attempts=[_try(attempt, began) for attempt in turn.attempts],
        status=str(response["status"]),
        failure=failure,
        error=response.get("error"),
        incomplete=response.get("incomplete_details"),
        tokens=_tokens(response.get("usage"), estimated),
        usage_is_estimated=estimated,
        warnings=rendition.report.header(),
        losses=list(rendition.report.entries),
        tools=_named_tools(turn),
        first_token_s=None if answered is None else round(answered - began, 3),
        ended_s=round(turn.clock() - began, 3),
        times=_times(turn),
        upstream_cut=turn.upstream.cut,
        edited=turn.is_edited,
        reasoning=rendition.context.reasoning,
        seals=rendition.context.seal is not None,
        compacts=rendition.translation.compacts,
    )


def _try(attempt: AttemptRecord, began: float) -> Try:
    def since(at: float | None) -> float | None:
        return None if at is None else round(at - began, 3)

    return Try(
        account=attempt.account,
        provider=attempt.provider,
        url=attempt.url,
        status=attempt.status,
        failure=attempt.failure,
        sent_s=round(attempt.at - began, 3),
        head_s=since(attempt.head_at),
        ended_s=since(attempt.ended_at),
        error_body=attempt.error_body,
    )


class _Details(Part):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(Part):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details = _Details()
    output_tokens_details: _Details = _Details()


def _tokens(usage: JsonValue, estimated: bool) -> Tokens | None:
    if usage is None:
        return None
    counted = _Usage.model_validate(usage)
    return Tokens(
        input=counted.input_tokens,
        cached=counted.input_tokens_details.cached_tokens,
        output=counted.output_tokens,
        reasoning=counted.output_tokens_details.reasoning_tokens,
        estimated=estimated,
    )


def _named_tools(turn: Turn) -> list[NamedTool]:
    table = turn.rendition.translation.tools
    routes = ((tool.name, table.route(tool.name)) for tool in table.definitions)
    return [
        NamedTool(flat=flat, kind=route.kind, namespace=route.namespace, name=route.name)
        for flat, route in routes
        if (route.kind, route.name) != ("function", flat)
    ][:_MOST_TOOLS]


def _times(turn: Turn) -> list[tuple[int, float]]:
    if not turn.streams:
        return []
    times = turn.recording.times()
    step = len(times) // MOST_TIMES + 1
    # Counted from the end, which is kept.
    kept = times[::-1][::step][::-1]
    return [(end, round(at - turn.began_at, 3)) for end, at in kept]
