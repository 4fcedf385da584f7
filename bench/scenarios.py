"""What is measured, how often, and the most it may cost."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from bench.jobs import Paced, PacedResult, Series, SeriesResult
from bench.meter import resident_kib
from bench.systems import MODES, SUBJECT, YARDSTICK, Bench, BenchError, Lane, Mode
from bench.workloads import HISTORY_SIZES, WORKLOADS, request_body


@dataclass(frozen=True, slots=True)
class Metric:
    label: str
    unit: str
    compare: Literal["times", "plus"]
    """How a system stands to the yardstick: so many times, or so much more."""
    limit: float | None = None


@dataclass(slots=True)
class Row:
    metric: Metric
    mode: Mode
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, system: str) -> float | None:
        return statistics.median(self.rounds[system]) if system in self.rounds else None

    def comparisons(self, system: str) -> list[float]:
        """Each round's own, so that what drifts from round to round cancels out."""
        if system not in self.rounds or YARDSTICK not in self.rounds:
            return []
        pairs = zip(self.rounds[system], self.rounds[YARDSTICK], strict=True)
        if self.metric.compare == "times":
            return [own / base for own, base in pairs]
        return [own - base for own, base in pairs]

    def within_limit(self) -> bool | None:
        values = self.comparisons(SUBJECT)
        if not values or self.metric.limit is None:
            return None
        return statistics.median(values) <= self.metric.limit


type Values = tuple[float | None, ...]
type Measure = Callable[[Bench, Lane], Values]


@dataclass(frozen=True, slots=True)
class Scenario:
    key: str
    metrics: tuple[Metric, ...]
    measure: Measure
    """One value per metric; None where the system has none."""
    rounds: int
    modes: tuple[Mode, ...] = MODES
    direct: bool = True
    """Whether the upstream without any proxy takes part."""

    def run(self, bench: Bench) -> list[Row]:
        """All systems in turn, round after round."""
        rows = {mode: [Row(metric, mode) for metric in self.metrics] for mode in self.modes}
        lanes = [
            lane
            for lane in bench.lanes
            if lane.mode in self.modes and (self.direct or lane.pid is not None)
        ]
        for number in range(1, self.rounds + 1):
            sys.stderr.write(f"bench: {self.key}, round {number} of {self.rounds}\n")
            for lane in lanes:
                try:
                    values = self.measure(bench, lane)
                except BenchError as error:
                    name = f"{self.key}, {lane.system.name} by {lane.mode}"
                    raise BenchError(f"{name}: {error}") from error
                for row, value in zip(rows[lane.mode], values, strict=True):
                    if value is None:
                        continue
                    row.rounds.setdefault(lane.system.name, []).append(value)
        return [rows[mode][i] for i in range(len(self.metrics)) for mode in self.modes]


def scenarios(*, quick: bool) -> list[Scenario]:
    def rounds(full: int, fewer: int) -> int:
        return fewer if quick else full

    return [
        Scenario(
            "burst",
            (
                Metric("burst, 10,000 text chunks", "ms", "times", 1.6),
                Metric("  CPU per chunk", "µs", "times"),
            ),
            partial(burst, "bench-burst"),
            rounds(11, 2),
        ),
        Scenario(
            "arguments",
            (
                Metric("burst, 5,000 argument fragments", "ms", "times", 1.6),
                Metric("  CPU per fragment", "µs", "times"),
            ),
            partial(burst, "bench-arguments"),
            rounds(11, 2),
        ),
        Scenario(
            "paced",
            (Metric("100 streams at 50/s, CPU per chunk", "µs", "times", 1.2),),
            partial(paced, 2 if quick else 3),
            rounds(5, 1),
            modes=("connect",) if quick else MODES,
            direct=False,
        ),
        Scenario(
            "short",
            (
                Metric("short request, first event", "ms", "plus", 1.0),
                Metric("  CPU per request", "ms", "plus"),
            ),
            partial(short, 100),
            rounds(15, 2),
        ),
        Scenario(
            "concurrent",
            (Metric("16 at once, wall per request", "ms", "plus"),),
            partial(concurrent, 10),
            rounds(9, 1),
        ),
        *(
            Scenario(
                f"history-{items}",
                (
                    Metric(f"history, {history_label(items)}, first event", "ms", "plus", 8.0),
                    Metric("  CPU per request", "ms", "plus"),
                ),
                partial(history, items, 5),
                rounds(11, 2),
            )
            for items in HISTORY_SIZES
        ),
        Scenario(
            "memory",
            (Metric("memory, growth per request", "KB", "plus"),),
            partial(memory, 300 if quick else 2_000),
            1,
            modes=("reverse",),
            direct=False,
        ),
    ]


def history_label(items: int) -> str:
    size = len(request_body(WORKLOADS[f"bench-history-{items}"], "responses"))
    return f"{items} items, {size / 1000:,.0f} KB"


def per(count: int, value: float | None) -> float | None:
    return None if value is None else value / count


def burst(model: str, bench: Bench, lane: Lane) -> Values:
    job = Series(route=lane.route, model=model, requests=1, pid=lane.pid)
    result = bench.run(job, SeriesResult)
    return result.whole_ms, per(len(WORKLOADS[model].pieces), result.cpu_us)


def paced(seconds: int, bench: Bench, lane: Lane) -> Values:
    assert lane.pid
    job = Paced(
        route=lane.route,
        model=f"bench-paced-{seconds}",
        streams=100,
        window=0.4 * seconds,
        pid=lane.pid,
    )
    result = bench.run(job, PacedResult)
    return (result.cpu_us_per_event,)


def short(requests: int, bench: Bench, lane: Lane) -> Values:
    job = Series(route=lane.route, model="bench-short", requests=requests, warmup=20, pid=lane.pid)
    result = bench.run(job, SeriesResult)
    return result.first_event_ms, per(1_000 * requests, result.cpu_us)


def concurrent(requests: int, bench: Bench, lane: Lane) -> Values:
    job = Series(route=lane.route, model="bench-short", requests=requests, connections=16)
    return (bench.run(job, SeriesResult).wall_ms / (16 * requests),)


def history(items: int, requests: int, bench: Bench, lane: Lane) -> Values:
    model = f"bench-history-{items}"
    job = Series(route=lane.route, model=model, requests=requests, warmup=2, pid=lane.pid)
    result = bench.run(job, SeriesResult)
    return result.first_event_ms, per(1_000 * requests, result.cpu_us)


def memory(requests: int, bench: Bench, lane: Lane) -> Values:
    with bench.fresh(lane) as other:
        assert other.pid
        job = Series(route=other.route, model="bench-short", requests=200)
        bench.run(job, SeriesResult)
        before = resident_kib(other.pid)
        bench.run(job.model_copy(update={"requests": requests}), SeriesResult)
        return ((resident_kib(other.pid) - before) / requests,)
