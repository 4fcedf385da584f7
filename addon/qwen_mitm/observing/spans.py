"""OpenTelemetry spans of a turn and its attempts, without any content. Imported when asked for.

Names are those of the GenAI semantic conventions:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from qwen_mitm import __version__
from qwen_mitm.observing.faults import FaultClass, of_attempt, of_turn
from qwen_mitm.providers import profile_for
from qwen_mitm.reports import Try, TurnEnded

logger = logging.getLogger(__name__)

type _Value = str | int | float | bool | tuple[str, ...]

_EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
#: The names of the exporters for ``otlp``.
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_NS: Final = 1_000_000_000
_LONGEST_WAIT_S: Final = 1.5


class Spans:
    """One span for a turn and one below it for each attempt, made when the turn is over."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._closing: threading.Thread | None = None
        self._tracer: Tracer = provider.get_tracer("qwen-mitm", __version__)

    def turn_ended(self, turn: TurnEnded) -> None:
        began = turn.ended_at - turn.duration_s
        span = self._tracer.start_span(
            f"chat {turn.model}",
            kind=SpanKind.CLIENT,
            start_time=_ns(began),
            attributes=_of_turn(turn),
        )
        _fail(span, of_turn(turn))
        below = set_span_in_context(span)
        ends = [attempt.began_s for attempt in turn.tries[1:]] + [turn.duration_s]
        for place, (attempt, end) in enumerate(zip(turn.tries, ends, strict=True)):
            child = self._tracer.start_span(
                f"attempt {attempt.account}",
                context=below,
                kind=SpanKind.CLIENT,
                start_time=_ns(began + attempt.began_s),
                attributes=_of_attempt(attempt),
            )
            is_last = place == len(turn.tries) - 1
            _fail(child, of_turn(turn) if is_last else of_attempt(attempt))
            child.end(_ns(began + end))
        span.end(_ns(turn.ended_at))

    def close(self) -> None:
        """Begin to send what is left. ``is_busy`` says whether that is done."""
        self._closing = threading.Thread(
            target=self._provider.shutdown, name="qwen-spans", daemon=True
        )
        self._closing.start()

    def wait(self) -> None:
        """Until that is done, but not for long: whoever listens may be gone."""
        if self._closing is not None:
            self._closing.join(_LONGEST_WAIT_S)

    @property
    def is_busy(self) -> bool:
        return self._closing is not None and self._closing.is_alive()


def from_environment() -> Spans | None:
    """As the variables of OpenTelemetry say; None: they name no exporter that is installed."""
    exporters = list(_exporters())
    if not exporters:
        return None
    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if is_named else {"service.name": "qwen-mitm"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Spans(provider)


def _exporters() -> Iterator[SpanExporter]:
    for name in os.environ.get(_EXPORTERS, "otlp").split(","):
        if name.strip() in ("", "none"):
            continue
        entry = _OTLP[_protocol()] if name.strip() == "otlp" else name.strip()
        for found in entry_points(group="opentelemetry_traces_exporter", name=entry):
            yield found.load()()
            break
        else:
            logger.warning("qwen-mitm: no exporter of spans named %s is installed.", entry)


def _protocol() -> str:
    chosen = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "")
    return chosen if chosen in _OTLP else "http/protobuf"


def _of_turn(turn: TurnEnded) -> dict[str, _Value]:
    tokens = turn.tokens
    found: dict[str, _Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": turn.model,
        "gen_ai.request.stream": turn.streamed,
        "qwen.outcome": turn.outcome,
        "qwen.failovers": max(0, len(turn.tries) - 1),
    }
    if turn.tries:
        found |= _of_attempt(turn.tries[-1])
        found.pop("http.response.status_code", None)
    if turn.response_id:
        found["gen_ai.response.id"] = turn.response_id
    if turn.succeeded:
        found["gen_ai.usage.input_tokens"] = tokens.input
        found["gen_ai.usage.cache_read.input_tokens"] = tokens.cached
        found["gen_ai.usage.output_tokens"] = tokens.output
        found["gen_ai.usage.reasoning.output_tokens"] = tokens.reasoning
        found["qwen.usage.estimated"] = tokens.estimated
    if turn.first_event_s is not None and turn.streamed:
        found["gen_ai.response.time_to_first_chunk"] = turn.first_event_s
    return found


def _of_attempt(attempt: Try) -> dict[str, _Value]:
    found: dict[str, _Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": profile_for(f"https://{attempt.host}").name,
        "server.address": attempt.host,
        "server.port": attempt.port,
        "qwen.account": attempt.account,
    }
    if attempt.status is not None:
        found["http.response.status_code"] = attempt.status
    return found


def _fail(span: Span, why: FaultClass | None) -> None:
    if why is not None:
        span.set_attribute("error.type", why)
        span.set_status(Status(StatusCode.ERROR))


def _ns(seconds: float) -> int:
    return round(seconds * _NS)
