import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast import AbnFastError, create_model, load_checkpoint
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import InMemoryImages
from abn_fast.models import wide_resnet
from abn_fast.modules import ImageNetwork
from abn_fast.training import TrainingConfig, TrainingInterruptedError, evaluate, train
from tests.training._data import stripes

CONFIG = TrainingConfig(epochs=3, batch_size=20, learning_rate=0.05, warmup_epochs=0.5, seed=3)
DROPPING = "abn_wide_resnet10_1"


def network(name: str = DROPPING) -> ImageNetwork:
    torch.manual_seed(5)
    if "wide" in name:
        return create_model(name, num_classes=3, drop_rate=0.3)
    return create_model(name, num_classes=3)


def run(folder: Path, model: ImageNetwork | None = None, **arguments: Any) -> dict[str, Any]:
    config = arguments.pop("config", CONFIG)
    return train(model or network(), stripes(), stripes(30, augment=False), config, folder, log=_silent, **arguments)


def _silent(line: str) -> None:
    pass


class Interrupting(InMemoryImages):
    """Sends a signal to this process while a batch is loaded."""

    at = 0
    loaded = 0
    signal = signal.SIGINT

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        self.loaded += 1
        if self.loaded == self.at:
            os.kill(os.getpid(), self.signal)
        return super().__getitems__(indices)


def interrupting(at: int) -> Interrupting:
    data = stripes()
    data.__class__ = Interrupting
    assert isinstance(data, Interrupting)
    data.at = at
    return data


@pytest.mark.parametrize("name", ["abn_cifar_resnet8", "cifar_resnet8"])
def test_a_network_learns(name: str, tmp_path: Path) -> None:
    summary = run(tmp_path, network(name), config=replace(CONFIG, epochs=8))
    assert summary["test_top1"] > 80


def test_a_run_leaves_its_files(tmp_path: Path) -> None:
    lines: list[str] = []
    train(network(), stripes(), stripes(30, augment=False), CONFIG, tmp_path, log=lines.append)
    assert {path.name for path in tmp_path.iterdir()} == {
        "last.safetensors",
        "metrics.csv",
        "curve.png",
        "summary.json",
    }
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert len(lines) == 3
    summary = json.loads((tmp_path / "summary.json").read_text())
    loaded = read_checkpoint(tmp_path / "last.safetensors")
    assert loaded.classes == ["horizontal", "vertical", "none"]
    measured = evaluate(loaded.model, stripes(30, augment=False))
    assert summary["test_top1"] == pytest.approx(measured["top1"])
    assert float(rows[-1]["test_pointing_game"]) == pytest.approx(measured["pointing_game"])


@pytest.mark.parametrize("at", [2, 5, 8])
def test_an_interrupted_run_resumes_to_the_very_same_weights(at: int, tmp_path: Path) -> None:
    run(tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises(TrainingInterruptedError, match=f"--resume {broken}"):
        train(network(), interrupting(at), stripes(30, augment=False), CONFIG, broken, log=_silent)
    position = read_checkpoint(broken / "last.safetensors").training
    assert (position["epoch"], position["images"]) == (divmod(at, 5)[0], 20 * (at % 5)) if at % 5 else (at // 5 - 1, 96)
    torch.manual_seed(999)
    torch.rand(7)
    run(broken, resume=True)
    whole, resumed = (
        load_checkpoint(tmp_path / name / "last.safetensors").state_dict() for name in ("whole", "broken")
    )
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]


def test_the_handlers_of_signals_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterruptedError):
        train(network(), interrupting(1), stripes(30, augment=False), CONFIG, tmp_path, log=_silent)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, config=replace(CONFIG, epochs=1))
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(AbnFastError, match=r"the loss became (nan|inf) in epoch 1: lower the learning rate") as stop:
        run(tmp_path, config=replace(CONFIG, learning_rate=1e30, warmup_epochs=0))
    assert "\n" not in str(stop.value)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_data_set_of_other_classes_is_refused_before_any_work(tmp_path: Path) -> None:
    model = create_model("abn_cifar_resnet8", num_classes=4)
    with pytest.raises(AbnFastError, match="the data set has 3 classes and the model 4"):
        run(tmp_path, model)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_model_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, config=replace(CONFIG, epochs=1))
    with pytest.raises(AbnFastError, match="abn_wide_resnet10_1"):
        run(tmp_path, network("abn_cifar_resnet8"), resume=True)


def test_dropout_takes_part_in_the_resume_test() -> None:
    assert any(module.drop_rate > 0 for module in network().modules() if isinstance(module, wide_resnet.WideBlock))
