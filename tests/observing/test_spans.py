from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from qwen_mitm.observing.spans import Spans, from_environment
from qwen_mitm.reports import Fault, TurnEnded
from tests.observing.turns import a_turn


def spans_of(turn: TurnEnded) -> Sequence[ReadableSpan]:
    """Those of the attempts, in order, and that of the turn."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Spans(provider).turn_ended(turn)
    return exporter.get_finished_spans()


def test_a_turn_is_a_span_with_one_below_it_for_each_attempt() -> None:
    first, second, whole = spans_of(
        a_turn("plan", "work", statuses=(429,), input=1000, cached=800, output=126, reasoning=26)
    )
    assert whole.name == "chat qwen3-coder-plus"
    assert dict(whole.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "coding-plan",
        "gen_ai.request.model": "qwen3-coder-plus",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "resp_fake",
        "gen_ai.response.time_to_first_chunk": 0.4,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.output_tokens": 126,
        "gen_ai.usage.reasoning.output_tokens": 26,
        "server.address": "coding-intl.dashscope.aliyuncs.com",
        "server.port": 443,
        "qwen.account": "work",
        "qwen.failovers": 1,
        "qwen.outcome": "completed",
        "qwen.usage.estimated": False,
    }
    assert whole.status.is_ok
    assert whole.start_time
    assert whole.end_time
    assert whole.end_time - whole.start_time == pytest.approx(2.4e9, abs=1000)

    above = whole.get_span_context()
    assert above
    for attempt in (first, second):
        assert attempt.parent
        assert attempt.parent.span_id == above.span_id
    assert first.attributes
    assert second.attributes
    assert first.attributes["qwen.account"] == "plan"
    assert first.attributes["http.response.status_code"] == 429
    assert first.attributes["error.type"] == "rate_limit"
    assert not first.status.is_ok
    assert second.status.is_ok
    assert first.end_time == second.start_time
    assert second.end_time == whole.end_time


def test_a_failure_is_named_by_its_class_and_its_words_stay_here() -> None:
    fault = Fault(message="the prompt was: fake-content", status=500)
    spans = spans_of(a_turn("plan", outcome="failed", fault=fault, first_event_s=None))
    assert {(span.attributes or {})["error.type"] for span in spans} == {"upstream_error"}
    assert "fake-content" not in "".join(span.to_json() for span in spans)


@pytest.mark.parametrize("exporter", ["none", "no-such-exporter"])
def test_without_an_exporter_there_are_no_spans(
    exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporter)
    assert from_environment() is None
