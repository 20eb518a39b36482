from collections.abc import Sequence
from pathlib import Path

from abn_fast.training.run import write_file

_SETS = ("", "validation_", "test_")
_PANELS = {"loss": ("loss",), "accuracy, %": ("top1", "attention_top1", "accuracy", "attention_accuracy")}


def write_learning_curve(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Draw loss and accuracies over the epochs into a PNG.

    Raises:
        AbnFastError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, (label, names) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
        for name in (prefix + name for name in names for prefix in _SETS):
            points = [(row["epoch"], row[name]) for row in history if name in row]
            if points:
                dashes = "-" if name.startswith(("test_", "validation_")) else "--"
                axes.plot(*zip(*points, strict=True), dashes, label=name.replace("_", " "))
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
