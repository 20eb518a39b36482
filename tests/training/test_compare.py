"""Runs side by side, from the files that they leave."""

import json
from pathlib import Path

import pytest

from abn_fast import AbnFastError
from abn_fast.training.compare import compare_runs, write_comparison


def finished(folder: Path, lr: float, accuracies: list[float], loss: float) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"training": {"optimizer": {"lr": lr}, "epochs": 3}}))
    tasks = {f"test_accuracy.task{index}": value for index, value in enumerate(accuracies)}
    mean = sum(accuracies) / len(accuracies)
    summary = {"seconds": 9.0, "test_loss": loss, "test_accuracy": mean, **tasks, "beyond_the_paper": []}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def rows(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()[1:]]
    return {line[0]: line[1:] for line in lines}


def test_tasks_better_than_those_of_the_first_run_are_counted(tmp_path: Path) -> None:
    plain = finished(tmp_path / "plain", 0.1, [80, 70, 60, 90], 0.5)
    abn = finished(tmp_path / "abn", 0.2, [81, 70, 62, 89], 0.4)
    found = rows(compare_runs([plain, abn]))
    assert found["of 4 tasks better than plain"] == ["-", "2"]
    assert found["test accuracy"] == ["75", "75.5*"]
    assert found["test loss"] == ["0.5", "0.4*"]
    assert found["seconds"] == ["9", "9"]
    assert found["training.optimizer.lr"] == ["0.1", "0.2"]
    assert set(found) == {
        "training.optimizer.lr",
        "test loss",
        "test accuracy",
        "seconds",
        "of 4 tasks better than plain",
    }


def test_a_picture_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", 0.1, [80], 0.5)
    (run / "metrics.csv").write_text("epoch,test_loss,test_accuracy\n1,0.5,80\n")
    write_comparison([run], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(AbnFastError, match=r"folder\.png cannot be written"):
        write_comparison([run], tmp_path / "folder.png")
