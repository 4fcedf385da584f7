"""What Prometheus reads. Counted when a turn ends; accounts and open streams are looked up then."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qwen_mitm.accounts.cooldown import ALL_MODELS
from qwen_mitm.observing.faults import of_attempt, of_fault, of_turn
from qwen_mitm.observing.labels import Labels
from qwen_mitm.observing.present import Present
from qwen_mitm.reports import RequestRefused, TurnEnded

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
MOST_MODELS: Final = 50
MOST_ACCOUNTS: Final = 200

_FIRST_TOKEN_S: Final = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
_PER_SECOND: Final = (5, 10, 20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500)


class Metrics:
    """The counters of this process, in a registry of their own."""

    def __init__(self, present: Callable[[], Present]) -> None:
        self._models = Labels(MOST_MODELS)
        self._accounts = Labels(MOST_ACCOUNTS)
        self._registry = registry = CollectorRegistry()
        self._turns = Counter(
            "qwen_turns",
            "Turns that are over.",
            ("model", "account", "outcome"),
            registry=registry,
        )
        self._tokens = Counter(
            "qwen_tokens",
            "Tokens as the upstream counted them, or as estimated where it did not. Cached ones "
            "are part of input, and reasoning is part of output.",
            ("model", "account", "kind"),
            registry=registry,
        )
        self._cost = Counter(
            "qwen_cost",
            "Of turns whose model has a price and whose tokens the upstream counted.",
            ("model", "account", "currency"),
            registry=registry,
        )
        self._failovers = Counter(
            "qwen_failovers",
            "Attempts after which another one was made.",
            ("account", "class"),
            registry=registry,
        )
        self._errors = Counter(
            "qwen_errors",
            "Requests whose client got no whole answer.",
            ("class",),
            registry=registry,
        )
        self._first_token = Histogram(
            "qwen_time_to_first_token_seconds",
            "From the request to the first event of a streamed answer.",
            ("model",),
            buckets=_FIRST_TOKEN_S,
            registry=registry,
        )
        self._per_second = Histogram(
            "qwen_output_tokens_per_second",
            "Output tokens of a streamed answer, from its first event to its last.",
            ("model",),
            buckets=_PER_SECOND,
            registry=registry,
        )
        registry.register(_Standing(present))
        ProcessCollector(namespace="qwen", registry=registry)

    def turn_ended(self, turn: TurnEnded) -> None:
        model = self._models.of(turn.model, proven=turn.succeeded)
        account = self._accounts.of(turn.tries[-1].account) if turn.tries else ""
        self._turns.labels(model, account, turn.outcome.replace(" ", "_")).inc()
        tokens = turn.tokens
        for kind, number in (
            ("input", tokens.input),
            ("cached", tokens.cached),
            ("output", tokens.output),
            ("reasoning", tokens.reasoning),
        ):
            if number:
                self._tokens.labels(model, account, kind).inc(number)
        if turn.cost:
            self._cost.labels(model, account, turn.currency).inc(turn.cost)
        for attempt in turn.tries[:-1]:
            left = self._accounts.of(attempt.account)
            self._failovers.labels(left, of_attempt(attempt)).inc()
        if turn.first_event_s is not None and turn.streamed:
            self._first_token.labels(model).observe(turn.first_event_s)
        if (speed := turn.tokens_per_second) is not None:
            self._per_second.labels(model).observe(speed)
        if (fault := of_turn(turn)) is not None:
            self._errors.labels(fault).inc()

    def refused(self, refused: RequestRefused) -> None:
        self._errors.labels(of_fault(refused.fault, asked=False)).inc()

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class _Standing(Collector):
    """What holds now, and is not counted."""

    def __init__(self, present: Callable[[], Present]) -> None:
        self._present = present

    def describe(self) -> Iterator[Metric]:
        # Without this the registry would collect when it is made, before there is anything.
        return iter(())

    def collect(self) -> Iterator[Metric]:
        present = self._present()
        streams = GaugeMetricFamily("qwen_open_streams", "Streamed turns that are running.")
        streams.add_metric((), present.open_streams)
        yield streams
        cooldowns = GaugeMetricFamily(
            "qwen_cooldowns",
            "Limits that keep an account, or one of its models, from being asked.",
            labels=("account", "reason", "scope"),
        )
        usable = GaugeMetricFamily(
            "qwen_account_usable",
            "1 when the account may be asked for models in general.",
            labels=("account",),
        )
        for account in present.accounts[:MOST_ACCOUNTS]:
            found = Tally(
                (limit.reason, "account" if model == ALL_MODELS else "model")
                for model, limit in account.cooldowns.items()
                if not limit.is_over(present.now_ms)
            )
            for (reason, scope), number in found.items():
                cooldowns.add_metric((account.name, reason, scope), number)
            usable.add_metric((account.name,), account.is_usable(ALL_MODELS, present.now_ms))
        yield cooldowns
        yield usable
        info = GaugeMetricFamily(
            "qwen_build_info", "Always 1.", labels=("version", "mitmproxy", "python")
        )
        status = present.status
        info.add_metric((status.version, status.mitmproxy, status.python), 1)
        yield info
