"""What several workers bring: `python -m bench.workers [--rounds 5]`.

Unlike the scenarios of bench/scenarios.py nothing is pinned to a core: workers, upstream and load
generator share them all, so the gain is smaller than the workers alone would have.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.jobs import Route, Series, SeriesResult
from bench.meter import cpu_seconds
from bench.processes import stop_on_signals
from bench.report import facts
from bench.systems import Bench
from bench.workloads import WORKLOADS, tokens
from qwen_mitm.cli.launch import launched
from qwen_mitm.cli.workers import launched_workers

MANY = 2


@dataclass(frozen=True)
class Load:
    """Requests on some connections at once, and what is told of them."""

    label: str
    model: str
    connections: int
    requests: int
    value: Callable[["Load", SeriesResult], float]

    def on(self, bench: Bench, route: Route) -> float:
        job = Series(
            route=route,
            model=self.model,
            connections=self.connections,
            requests=self.requests,
            warmup=1,
        )
        return self.value(self, bench.run(job, SeriesResult))


def chunks_per_second(load: Load, result: SeriesResult) -> float:
    chunks = load.connections * load.requests * tokens(WORKLOADS[load.model])
    return 1e3 * chunks / result.wall_ms


def requests_per_second(load: Load, result: SeriesResult) -> float:
    return 1e3 * load.connections * load.requests / result.wall_ms


def seconds(_load: Load, result: SeriesResult) -> float:
    return result.whole_ms / 1e3


def loads() -> list[Load]:
    return [
        Load("bursts on 8 connections, chunks/s", "bench-burst", 8, 2, chunks_per_second),
        Load("bursts on 32 connections, chunks/s", "bench-burst", 32, 1, chunks_per_second),
        Load("short requests on 32 connections, 1/s", "bench-short", 32, 20, requests_per_second),
        *(
            Load(f"{count} streams at 50/s, s for 3 s", "bench-paced-3", count, 1, seconds)
            for count in (100, 150, 200)
        ),
    ]


@dataclass
class Lane:
    route: Route
    pids: list[int]
    values: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def take(self, load: Load, bench: Bench) -> None:
        before = sum(map(cpu_seconds, self.pids))
        self.values.setdefault(load.label, []).append(load.on(bench, self.route))
        used = sum(map(cpu_seconds, self.pids)) - before
        self.cpu.setdefault(load.label, []).append(used)


def measure(rounds: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="qwen-mitm-bench-") as folder,
        Bench(Path(folder), pinned=False) as bench,
        launched(bench.launch()) as one,
        launched_workers(bench.launch(), MANY) as many,
    ):
        lanes = [
            Lane(bench.route_at(one.ready.port), [one.pid]),
            Lane(bench.route_at(many.ready.port), many.pids),
        ]
        for number in range(1, rounds + 1):
            for load in loads():
                sys.stderr.write(f"bench: {load.label}, round {number} of {rounds}\n")
                for lane in lanes:
                    lane.take(load, bench)
    sys.stdout.write(f"{facts()}, load average {os.getloadavg()[0]:.1f}, {rounds} rounds\n\n")
    sys.stdout.write(f"| medians | 1 worker | {MANY} workers | ratio | their CPU, ratio |\n")
    sys.stdout.write("|---|---:|---:|---:|---:|\n")
    for load in loads():
        own = [lane.values[load.label] for lane in lanes]
        cells = [f"{statistics.median(values):,.4g}" for values in own]
        cells += [ratio(own), ratio([lane.cpu[load.label] for lane in lanes])]
        sys.stdout.write(f"| {load.label} | {' | '.join(cells)} |\n")


def ratio(lanes: list[list[float]]) -> str:
    """Of each round, as it drifts less than the values."""
    first, last = lanes
    found = [b / a for a, b in zip(first, last, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    stop_on_signals()
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
