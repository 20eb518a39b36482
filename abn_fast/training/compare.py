import csv
import json
from collections.abc import Sequence
from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast.training.run import RunFolder, flat_settings, write_file

_SHOWN = ("test_", "validation_")
_MISSING = "-"


def compare_runs(folders: Sequence[Path]) -> str:
    """A table of runs: the settings in which they differ, then their results, best in its row marked with *.

    For multi-task runs the last row counts the tasks on which a run is better than the first one.

    Raises:
        AbnFastError: a folder holds no finished run.
    """
    settings = [flat_settings(RunFolder(folder).read_settings()) for folder in folders]
    results = [_results(RunFolder(folder)) for folder in folders]
    rows = [["", *(folder.name for folder in folders)]]
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [each.get(name, _MISSING) for each in settings]
        if any(value != values[0] for value in values):
            rows.append([name, *map(str, values)])
    for name in dict.fromkeys(name for each in results for name in each):
        if "." not in name:
            rows.append([name.replace("_", " "), *_marked(name, [each.get(name) for each in results])])
    tasks = [name for name in results[0] if name.startswith("test_accuracy.")]
    if tasks and len(results) > 1:
        better = [str(sum(each.get(name, 0) > results[0][name] for name in tasks)) for each in results[1:]]
        rows.append([f"of {len(tasks)} tasks better than {folders[0].name}", _MISSING, *better])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Draw the runs' test accuracy and loss over the epochs into a PNG.

    Raises:
        AbnFastError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, (label, names) in zip(
        figure.subplots(1, 2),
        {"test loss": ("test_loss",), "test accuracy, %": ("test_top1", "test_accuracy")}.items(),
        strict=True,
    ):
        for folder in folders:
            with RunFolder(folder).metrics.open(newline="") as file:
                rows = list(csv.DictReader(file))
            name = next((name for name in names if rows and name in rows[0]), None)
            if name is not None:
                axes.plot([int(row["epoch"]) for row in rows], [float(row[name]) for row in rows], label=folder.name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def _results(folder: RunFolder) -> dict[str, float]:
    if not folder.summary.is_file():
        raise AbnFastError(f"{folder.path} holds no finished run: {folder.summary.name} is missing")
    summary = json.loads(folder.summary.read_text())
    shown = {name: value for name, value in summary.items() if name.startswith(_SHOWN)}
    best = summary.get("best", {})
    shown |= {f"best_{name}": value for name, value in best.items() if name.startswith(_SHOWN) and "." not in name}
    return shown | {name: summary[name] for name in ("images_per_second", "seconds") if name in summary}


def _marked(name: str, values: list[float | None]) -> list[str]:
    known = [value for value in values if value is not None]
    best = min(known) if name.endswith("loss") or name == "seconds" else max(known)
    several = len(set(known)) > 1
    return [_MISSING if value is None else f"{value:.4g}{'*' if several and value == best else ''}" for value in values]
