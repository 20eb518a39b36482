"""Plots as SVG text to put into a page."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from abn_fast.benchmark_report.case import FIELDS, Case, Comparison, Measured

PARTS = ("forward", "backward", "optimizer", "data")
"""The modes that a training step consists of."""
TITLES = {
    "batch": "batch",
    "size": "resolution or map side, pixels",
    "classes": "classes K",
    "tasks": "tasks T",
    "processes": "processes",
}
_LEAST_POINTS = 2


class Sweep(NamedTuple):
    """The points of every way along one number of a case; all else is the same."""

    case: Case
    along: str
    quantity: str
    lines: dict[str, dict[int, Measured]]


def sweeps(comparisons: Sequence[Comparison]) -> list[Sweep]:
    """All sweeps in the comparisons of one suite, in their order."""
    found: dict[tuple[Case, str, str], Sweep] = {}
    for each in comparisons:
        for along in FIELDS:
            x = getattr(each.case, along)
            if not x or each.quantity not in ("seconds", "bytes"):
                continue
            case = each.case.at(along, 0)
            sweep = found.setdefault((case, along, each.quantity), Sweep(case, along, each.quantity, {}))
            for measured in filter(None, (each.ours, each.peer)):
                sweep.lines.setdefault(measured.name, {}).setdefault(x, measured)
    return [each for each in found.values() if max(map(len, each.lines.values())) >= _LEAST_POINTS]


def sweep_plot(sweep: Sweep) -> str:
    """What each way takes, with quartiles, both axes logarithmic."""
    from matplotlib.ticker import LogFormatter

    unit, factor = ("ms", 1e3) if sweep.quantity == "seconds" else ("peak memory, MB", 1e-6)
    figure, axes = _axes()
    for name, points in sweep.lines.items():
        ordered = [points[x] for x in sorted(points)]
        middle = [factor * each.median for each in ordered]
        around = [
            [factor * (each.median - each.lower) for each in ordered],
            [factor * (each.upper - each.median) for each in ordered],
        ]
        axes.errorbar(sorted(points), middle, yerr=around, marker="o", markersize=3, capsize=2, label=name)
    axes.set_yscale("log")
    for axis_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    return _finish(figure, axes, sweep, unit)


def throughput_plot(sweep: Sweep) -> str | None:
    """Images a second of each way, against batch or processes."""
    if sweep.quantity != "seconds" or sweep.along not in ("batch", "processes"):
        return None
    figure, axes = _axes()
    for name, points in sweep.lines.items():
        speeds = []
        for x in sorted(points):
            case = sweep.case.at(sweep.along, x)
            speeds.append((case.batch or 1) * (case.processes or 1) / points[x].median)
        axes.plot(sorted(points), speeds, marker="o", markersize=3, label=name)
    axes.set_ylim(bottom=0)
    return _finish(figure, axes, sweep, "images a second")


def step_plot(comparisons: Sequence[Comparison]) -> str | None:
    """The parts of a training step of each way, one bar a model and way."""
    bars = _parts_of_steps(comparisons)
    if not bars:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 0.4 * len(bars)), layout="constrained")
    axes = figure.subplots()
    starts = [0.0] * len(bars)
    for part in PARTS:
        widths = [1e3 * parts.get(part, 0.0) for parts in bars.values()]
        if any(widths):
            axes.barh(list(bars), widths, left=starts, label=part)
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms a step")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(PARTS))
    return _svg(figure)


def _parts_of_steps(comparisons: Iterable[Comparison]) -> Mapping[str, dict[str, float]]:
    bars: dict[str, dict[str, float]] = {}
    for each in comparisons:
        if each.case.mode in PARTS and each.quantity == "seconds":
            for measured in filter(None, (each.ours, each.peer)):
                name = f"{replace(each.case, mode='training')}\n{measured.name}"
                bars.setdefault(name, {})[each.case.mode] = measured.median
    return {name: parts for name, parts in bars.items() if len(parts) > 1}


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Any, axes: Any, sweep: Sweep, label: str) -> str:
    xs = sorted({x for points in sweep.lines.values() for x in points})
    axes.set(xlabel=TITLES[sweep.along], ylabel=label, xscale="log")
    axes.set_title(str(sweep.case), fontsize=8, wrap=True)
    axes.set_xticks(xs, [str(x) for x in xs], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize=7)
    return _svg(figure)


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
