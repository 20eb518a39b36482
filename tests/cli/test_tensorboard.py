"""TensorBoard gets what metrics.csv holds; a stand-in takes it, so that the package need not be there."""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from tests.cli.conftest import Run

SMALL = ("--model", "abn_cifar_resnet8", "--epochs", 2, "--batch-size", 8, "--image-size", 16, "--workers", 0)


class Writer:
    """Stands for torch.utils.tensorboard.SummaryWriter."""

    written: ClassVar[dict[str, dict[int, float]]] = defaultdict(dict)
    folders: ClassVar[list[str]] = []

    def __init__(self, folder: str) -> None:
        Writer.folders.append(folder)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        Writer.written[name][step] = value

    def flush(self) -> None:
        pass


def test_tensorboard_gets_every_metric_of_every_epoch(
    run: Run, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]  # the one name that is used
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    outcome = run("train", *SMALL, "--data", image_folder, "--out", "run", "--log", "tensorboard")
    assert outcome.code == 0, outcome.err
    assert Writer.folders == [str(Path("run/tensorboard"))]
    with Path("run/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for name in rows[0]:
        assert Writer.written[name] == {int(row["epoch"]): float(row[name]) for row in rows}


def test_without_tensorboard_the_extra_is_named_and_nothing_is_trained(
    run: Run, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    outcome = run("train", *SMALL, "--data", image_folder, "--out", "run", "--log", "tensorboard")
    assert outcome.code == 2
    assert "abn-fast[tensorboard]" in outcome.err
    assert not Path("run").exists()
