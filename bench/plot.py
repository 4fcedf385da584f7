"""The curves of a run as one SVG: cost against the length of the history, and against streams."""

from pathlib import Path

from bench.scenarios import Row
from bench.systems import DIRECT, BenchError


def plot(rows: list[Row], path: Path) -> None:
    """Writes the file; a curve needs the scenarios that are its points."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError("--plot needs matplotlib: pip install 'qwen-mitm[bench]'") from None
    curves: dict[tuple[str, str], list[tuple[float, Row]]] = {}
    for row in rows:
        if row.metric.curve is not None:
            name, at = row.metric.curve
            curves.setdefault((name, row.mode), []).append((at, row))
    if not curves:
        raise BenchError("nothing to plot: run the scenarios paced or history")
    figure = Figure(figsize=(5 * len(curves), 4), layout="constrained")
    every_axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, ((name, mode), points) in zip(every_axes, curves.items(), strict=True):
        points.sort(key=lambda point: point[0])
        metric = points[0][1].metric
        for system in points[0][1].rounds:
            if system != DIRECT:
                medians = [row.median(system) for _, row in points]
                axes.plot([at for at, _ in points], medians, marker="o", label=system)
        axes.set(xlabel=f"{name} ({mode})", ylabel=f"{metric.label.split(', ')[-1]}, {metric.unit}")
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path)
