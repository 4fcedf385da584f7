"""The table: medians, comparisons with the yardstick, the limits beside them."""

import os
import platform
import statistics
from importlib.metadata import version

from bench.scenarios import Row
from bench.systems import DIRECT, SUBJECT, YARDSTICK


def facts() -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, mitmproxy {version('mitmproxy')}"
    )


def table(rows: list[Row], systems: list[str]) -> str:
    others = [name for name in systems if name not in (DIRECT, YARDSTICK)]
    head = ["scenario", "way in", "unit"]
    head += [name for name in (DIRECT, YARDSTICK) if name in systems]
    for name in others:
        head += [name, f"{name} to {YARDSTICK}"]
    head += ["goal", "at most", "result"]
    lines = [head]
    for row in rows:
        line = [row.metric.label, row.mode, row.metric.unit]
        line += [number(row.median(name)) for name in (DIRECT, YARDSTICK) if name in systems]
        for name in others:
            line += [number(row.median(name)), summary(row, name)]
        line += [compared(row, row.metric.goal), compared(row, row.metric.limit)]
        line.append(verdict(row) if SUBJECT in systems else "")
        lines.append(line)
    return render(lines)


def render(lines: list[list[str]]) -> str:
    """A Markdown table that also reads well as plain text; numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def cells(line: list[str]) -> str:
        padded = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([cells(lines[0]), cells(rule), *map(cells, lines[1:])])


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def summary(row: Row, system: str) -> str:
    values = row.comparisons(system)
    if not values:
        return ""
    median = compared(row, statistics.median(values))
    return f"{median} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else median


def compared(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    match row.metric.compare:
        case "times":
            return f"{value:.2f} x"
        case "plus":
            return f"{value:+.2f}"
        case "alone":
            return f"{value:.2f}"


def verdict(row: Row) -> str:
    return {None: "", True: "ok", False: "MISSED"}[row.within_limit()]
