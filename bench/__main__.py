import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.plot import plot
from bench.processes import stop_on_signals
from bench.report import facts, table
from bench.scenarios import Scenario, scenarios
from bench.systems import MODES, SYSTEMS, Bench, BenchError

NOTE = """\
Medians of interleaved rounds. A comparison is the median of the rounds' own, with their range; a
wide one means that other work on the machine disturbed the run. direct: the upstream itself. pass:
mitmdump streaming the Chat answer through. naive: the same with loads and dumps of the request and
of each event. bridge: the addon. Systems run on one core, upstream and client on the others.
All answers were checked."""


def chosen(*, quick: bool, full: bool, only: str | None) -> list[Scenario]:
    every = scenarios(quick=quick, full=full)
    if only is None:
        return every
    names = only.split(",")
    for name in names:
        if not any(fits(scenario, name) for scenario in every):
            keys = ", ".join(scenario.key for scenario in every)
            raise BenchError(
                f"there is no scenario {name!r}; there are: {keys} (paced: all three, and so on)"
            )
    return [scenario for scenario in every if any(fits(scenario, name) for name in names)]


def fits(scenario: Scenario, name: str) -> bool:
    return scenario.key == name or scenario.key.startswith(f"{name}-")


def measure(options: argparse.Namespace) -> None:
    names: list[str] = options.systems.split(",")
    if unknown := set(names) - set(SYSTEMS):
        raise BenchError(f"unknown system {unknown.pop()!r}; there are: {', '.join(SYSTEMS)}")
    todo = chosen(quick=options.quick, full=options.full, only=options.only)
    started = time.monotonic()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="qwen-mitm-bench-") as folder,
        Bench(Path(folder)) as bench,
    ):
        bench.start([SYSTEMS[name] for name in names], MODES)
        for scenario in todo:
            if options.rounds is not None:
                scenario = replace(scenario, rounds=min(scenario.rounds, options.rounds))
            rows += scenario.run(bench)
        logs = bench.logs()
    sys.stdout.write(f"{facts()}, {time.monotonic() - started:.0f} s\n\n")
    sys.stdout.write(f"{table(rows, names)}\n\n{NOTE}\n")
    if options.plot:
        plot(rows, options.plot)
    for name, text in logs.items():
        lines = text.splitlines()
        tail = "\n".join(lines[-5:])
        sys.stdout.write(f"\n{name} logged {len(lines):,} lines, the last ones:\n{tail}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What the addon costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    parser.add_argument("--full", action="store_true", help="memory over 10,000 requests")
    parser.add_argument("--rounds", type=int, metavar="N", help="at most so many rounds of each")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the curves, as an SVG")
    parser.add_argument("--only", metavar="NAMES", help="scenarios, by comma: burst,short")
    parser.add_argument(
        "--systems",
        default=",".join(SYSTEMS),
        metavar="NAMES",
        help="systems, by comma (default: %(default)s)",
    )
    stop_on_signals()
    try:
        measure(parser.parse_args())
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    return 0


sys.exit(main())
