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
from dataclasses import dataclass
from pathlib import Path

from bench.jobs import Route, Series, SeriesResult
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
        Load("bursts on 8 connections, chunks/s", "bench-burst", 8, 3, chunks_per_second),
        Load("bursts on 32 connections, chunks/s", "bench-burst", 32, 2, chunks_per_second),
        Load("short requests on 32 connections, 1/s", "bench-short", 32, 20, requests_per_second),
        *(
            Load(f"{count} streams at 50/s, s for 3 s", "bench-paced-3", count, 1, seconds)
            for count in (50, 100, 150, 200)
        ),
    ]


def measure(rounds: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="qwen-mitm-bench-") as folder,
        Bench(Path(folder), pinned=False) as bench,
        launched(bench.launch()) as one,
        launched_workers(bench.launch(), MANY) as many,
    ):
        routes = [bench.route_at(proxy.ready.port) for proxy in (one, many)]
        found: dict[str, list[tuple[float, float]]] = {}
        for number in range(1, rounds + 1):
            for load in loads():
                sys.stderr.write(f"bench: {load.label}, round {number} of {rounds}\n")
                first, last = (load.on(bench, route) for route in routes)
                found.setdefault(load.label, []).append((first, last))
    sys.stdout.write(f"{facts()}, load average {os.getloadavg()[0]:.1f}, {rounds} rounds\n\n")
    sys.stdout.write(f"| medians | 1 worker | {MANY} workers | ratio of each round |\n")
    sys.stdout.write("|---|---:|---:|---:|\n")
    for label, values in found.items():
        cells = [f"{statistics.median(own):,.4g}" for own in zip(*values, strict=True)]
        ratios = [last / first for first, last in values]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        sys.stdout.write(f"| {label} | {' | '.join(cells)} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    stop_on_signals()
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
