"""What is measured, how often, and the most it may cost."""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from bench.jobs import Paced, PacedResult, Series, SeriesResult
from bench.meter import resident_kib
from bench.systems import MODES, SUBJECT, YARDSTICK, Bench, BenchError, Lane, Mode, Program
from bench.translator import loads_and_dumps, translated
from bench.workloads import HISTORY_SIZES, WORKLOADS, request_body, tokens


@dataclass(frozen=True, slots=True)
class Metric:
    label: str
    unit: str
    compare: Literal["times", "plus", "alone"]
    """How a system stands to the yardstick: so many times, so much more; or its own value."""
    limit: float | None = None
    """The most that counts as done."""
    goal: float | None = None
    curve: tuple[str, float] | None = None
    """The plot that it belongs to, and where."""


@dataclass(slots=True)
class Row:
    metric: Metric
    mode: Mode
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, system: str) -> float | None:
        return statistics.median(self.rounds[system]) if system in self.rounds else None

    def comparisons(self, system: str) -> list[float]:
        """Each round's own, so that what drifts from round to round cancels out."""
        if self.metric.compare == "alone":
            return self.rounds.get(system, [])
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


STREAMS = "streams at 50 chunks/s"
HISTORY = "KB of history"

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


def scenarios(*, quick: bool, full: bool) -> list[Scenario]:
    def rounds(many: int, fewer: int) -> int:
        return fewer if quick else many

    def bursts(key: str, label: str, unit: str, goal: float, limit: float) -> Scenario:
        metrics = (
            Metric(label, "ms", "times", limit, goal),
            Metric(f"  CPU per {unit}", "µs", "times"),
        )
        return Scenario(key, metrics, partial(burst, f"bench-{key}"), rounds(11, 2))

    def at_pace(streams: int, *, limits: bool = False) -> Scenario:
        label = f"{streams} stream{'s'[: streams > 1]} at 50/s, CPU per chunk"
        limit, goal = (1.15, 1.08) if limits else (None, None)
        return Scenario(
            f"paced-{streams}",
            (Metric(label, "µs", "times", limit, goal, (STREAMS, streams)),),
            partial(paced, streams, 2 if quick else 3),
            rounds(5, 1),
            modes=("connect",) if quick else MODES,
            direct=False,
        )

    def growth(program: Program, goal: float, limit: float) -> Scenario:
        requests = 10_000 if full else 300 if quick else 2_000
        label = f"memory, {program}, growth per request, {requests:,} requests"
        return Scenario(
            f"memory-{program}",
            (Metric(label, "KB", "alone", limit, goal),),
            partial(memory, program, requests),
            1,
            modes=("reverse",),
            direct=False,
        )

    return [
        bursts("burst", "burst, 10,000 text chunks", "chunk", 0.7, 1.0),
        bursts("arguments", "burst, 5,000 argument fragments", "fragment", 0.75, 1.0),
        bursts("reasoning", "burst, 4,000 reasoning chunks, then text", "chunk", 0.8, 1.1),
        bursts("cut", "burst, 10,000 text chunks cut at random bytes", "chunk", 0.6, 0.9),
        at_pace(1),
        at_pace(10),
        at_pace(100, limits=True),
        Scenario(
            "short",
            (
                Metric("short request, first event", "ms", "plus", 0.4, 0.15),
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
        Scenario(
            "fresh",
            (
                Metric("short request on a new connection, first event", "ms", "plus"),
                Metric("  CPU per request", "ms", "plus"),
            ),
            partial(fresh, 20),
            rounds(9, 1),
        ),
        *(
            Scenario(
                f"{kind}-{size}",
                (
                    Metric(
                        f"{what}, {history_label(model)}, first event",
                        "ms",
                        "plus",
                        limit,
                        goal,
                        curve=None
                        if WORKLOADS[model].image
                        else (f"{HISTORY}, {what}", history_bytes(model) / 1_000),
                    ),
                    Metric("  CPU per request", "ms", "plus"),
                ),
                partial(history, model, 8),
                rounds(11, 2),
            )
            for kind, what, limit, goal in (
                ("history", "first turn", 6.0, 4.0),
                ("turns", "later turn", 2.0, 0.3),
            )
            for size in ((264, "image") if quick else HISTORY_SIZES)
            for model in [f"bench-{kind}-{size}"]
        ),
        growth("mitmdump", 1.0, 3.0),
        growth("mitmweb", 5.0, 20.0),
        Scenario(
            "start",
            (Metric("start, until it listens", "s", "plus"),),
            start,
            rounds(5, 1),
            modes=("reverse",),
            direct=False,
        ),
        Scenario(
            "translator",
            (
                Metric("one text delta alone; pass: loads and dumps", "µs", "times", 0.4, 0.2),
                Metric("  in reads of 64 KB", "µs", "times"),
            ),
            translator,
            rounds(9, 3),
            modes=("reverse",),
            direct=False,
        ),
    ]


def history_label(model: str) -> str:
    workload = WORKLOADS[model]
    image = " and an image" if workload.image else ""
    return f"{workload.history} items{image}, {history_bytes(model) / 1000:,.0f} KB"


def history_bytes(model: str) -> int:
    return len(request_body(WORKLOADS[model], "responses"))


def per(count: int, value: float | None) -> float | None:
    return None if value is None else value / count


def burst(model: str, bench: Bench, lane: Lane) -> Values:
    job = Series(route=lane.route, model=model, requests=1, pid=lane.pid)
    result = bench.run(job, SeriesResult)
    return result.whole_ms, per(tokens(WORKLOADS[model]), result.cpu_us)


def paced(streams: int, seconds: int, bench: Bench, lane: Lane) -> Values:
    assert lane.pid
    job = Paced(
        route=lane.route,
        model=f"bench-paced-{seconds}",
        streams=streams,
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


def history(model: str, requests: int, bench: Bench, lane: Lane) -> Values:
    job = Series(route=lane.route, model=model, requests=requests, warmup=2, pid=lane.pid)
    result = bench.run(job, SeriesResult)
    return result.first_event_ms, per(1_000 * requests, result.cpu_us)


def fresh(requests: int, bench: Bench, lane: Lane) -> Values:
    job = Series(route=lane.route, model="bench-short", requests=requests, fresh=True, pid=lane.pid)
    result = bench.run(job, SeriesResult)
    return result.first_event_ms, per(1_000 * requests, result.cpu_us)


def memory(program: Program, requests: int, bench: Bench, lane: Lane) -> Values:
    with bench.fresh(lane, program) as other:
        assert other.pid
        # More than mitmweb is told to keep.
        job = Series(route=other.route, model="bench-short", requests=700)
        bench.run(job, SeriesResult)
        before = resident_kib(other.pid)
        bench.run(job.model_copy(update={"requests": requests}), SeriesResult)
        return ((resident_kib(other.pid) - before) / requests,)


def start(bench: Bench, lane: Lane) -> Values:
    began = time.perf_counter()
    with bench.fresh(lane):
        return (time.perf_counter() - began,)


def translator(_bench: Bench, lane: Lane) -> Values:
    """In this very process; the yardstick is what a naive addon does with the same chunk."""
    if lane.system.name == YARDSTICK:
        naive = loads_and_dumps()
        return naive, naive
    if lane.system.name == SUBJECT:
        return translated(), translated(64 * 1024)
    return None, None
