"""The scores of methods as a table, a CSV and a picture."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abn_fast.explain.score import MethodScores


def score_table(rows: "Sequence[MethodScores]") -> str:
    """Rows of methods, then controls; arrows say which way is good."""
    columns = columns_of(rows)
    cells = [["", *(heading(name) for name in columns)]]
    for row in rows:
        cells.append([row.name, *(f"{row.scores[name]:.1f}" if name in row.scores else "-" for name in columns)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_line(row, widths) for row in cells)


def write_score_csv(rows: "Sequence[MethodScores]", path: Path) -> None:
    """A line a method or control; an empty cell where there is no score."""
    from abn_fast.training.run import write_text

    columns, text = columns_of(rows), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "control", *columns])
    for row in rows:
        writer.writerow([row.name, int(row.is_control), *(row.scores.get(name, "") for name in columns)])
    write_text(path, text.getvalue())


def write_score_chart(rows: "Sequence[MethodScores]", path: Path) -> None:
    """A panel a metric, a bar a method; the controls are grey."""
    from matplotlib.figure import Figure

    from abn_fast._files import write_atomically
    from abn_fast.explain.score import COLUMNS

    columns = columns_of(rows)
    across = min(4, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(3 * across, (0.22 * len(rows) + 0.9) * down), layout="constrained")
    names = [row.name for row in rows]
    panels = figure.subplots(down, across, squeeze=False, sharey=True).flat
    for axes, name in zip(panels, columns, strict=False):
        values = [row.scores.get(name, 0.0) for row in rows]
        axes.barh(names, values, color=["0.7" if row.is_control else "tab:blue" for row in rows])
        unit = "" if name == "milliseconds" else ", %"
        good = "high" if COLUMNS[name].high_is_good else "low"
        axes.set_title(f"{COLUMNS[name].title}{unit} ({good} is good)", size=8)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
    for axes in list(panels)[len(columns) :]:
        axes.set_visible(False)
    figure.axes[0].invert_yaxis()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def columns_of(rows: "Sequence[MethodScores]") -> list[str]:
    """The names of `COLUMNS` that any row has."""
    from abn_fast.explain.score import COLUMNS

    return [name for name in COLUMNS if any(name in row.scores for row in rows)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *numbers])


def heading(name: str) -> str:
    """Title of a column, with an arrow that says which way is good."""
    from abn_fast.explain.score import COLUMNS

    return f"{COLUMNS[name].title} {'↑' if COLUMNS[name].high_is_good else '↓'}"
