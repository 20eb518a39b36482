import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from abn_fast import AbnFastError, create_model, load_checkpoint
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import EpochSampler, InMemoryImages
from abn_fast.models import wide_resnet
from abn_fast.modules import ImageNetwork
from abn_fast.training import (
    OptimizerConfig,
    RunFolder,
    ScheduleConfig,
    TrainingConfig,
    TrainingInterruptedError,
    evaluate,
    train,
    trainer,
)
from tests.training._data import stripes

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=20,
    optimizer=OptimizerConfig(lr=0.05),
    schedule=ScheduleConfig(warmup_epochs=0.5),
    seed=3,
)
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


class Poisoned(InMemoryImages):
    """Images of no number."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        return [(image * float("nan"), label) for image, label in super().__getitems__(indices)]


class PoisonedLater(InMemoryImages):
    """Likewise, but in the third batch alone."""

    loaded = 0

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        self.loaded += 1
        factor = float("nan") if self.loaded == 3 else 1
        return [(image * factor, label) for image, label in super().__getitems__(indices)]


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
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert len(lines) == 3
    summary = json.loads((tmp_path / "summary.json").read_text())
    loaded = read_checkpoint(tmp_path / "last.safetensors")
    assert loaded.classes == ["horizontal", "vertical", "none"]
    measured = evaluate(loaded.model, stripes(30, augment=False))
    assert summary["test_top1"] == pytest.approx(measured["top1"])
    assert float(rows[-1]["test_pointing_game"]) == pytest.approx(measured["pointing_game"])


@pytest.mark.parametrize(
    ("at", "layout"), [(2, torch.contiguous_format), (5, torch.contiguous_format), (8, torch.channels_last)]
)
def test_an_interrupted_run_resumes_to_the_very_same_weights(
    at: int, layout: torch.memory_format, tmp_path: Path
) -> None:
    run(tmp_path / "whole", network().to(memory_format=layout))
    broken = tmp_path / "broken"
    model = network().to(memory_format=layout)
    with pytest.raises(TrainingInterruptedError, match=f"--resume {broken}"):
        train(model, interrupting(at), stripes(30, augment=False), CONFIG, broken, log=_silent)
    position = read_checkpoint(broken / "last.safetensors").training
    assert (position["epoch"], position["images"]) == (divmod(at, 5)[0], 20 * (at % 5)) if at % 5 else (at // 5 - 1, 96)
    torch.manual_seed(999)
    torch.rand(7)
    run(broken, network().to(memory_format=layout), resume=True)
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
    with pytest.raises(AbnFastError, match=r"not finite in epoch 1, step \d+: lower the learning rate") as stop:
        run(tmp_path, config=replace(CONFIG, optimizer=OptimizerConfig(lr=1e30), schedule=ScheduleConfig()))
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


def test_the_best_epoch_is_chosen_on_the_validation_set(tmp_path: Path) -> None:
    summary = run(tmp_path, validation_set=stripes(24, augment=False), config=replace(CONFIG, epochs=4))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    scores = [float(row["validation_top1"]) for row in rows]
    assert summary["best"]["epoch"] == scores.index(max(scores)) + 1
    best = load_checkpoint(tmp_path / "best.safetensors")
    assert evaluate(best, stripes(24, augment=False))["top1"] == pytest.approx(max(scores))


def test_without_a_validation_set_nothing_is_best(tmp_path: Path) -> None:
    assert "best" not in run(tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_the_averaged_weights_are_what_is_evaluated(tmp_path: Path) -> None:
    summary = run(tmp_path, config=replace(CONFIG, epochs=1, ema_decay=0.5))
    average, last = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("average", "last"))
    measured = evaluate(average, stripes(30, augment=False))
    assert summary["test_loss"] == pytest.approx(measured["loss"])
    assert summary["test_loss"] != pytest.approx(evaluate(last, stripes(30, augment=False))["loss"])


def test_the_batch_that_is_not_finite_is_named_and_changes_nothing(tmp_path: Path) -> None:
    data, model = stripes(), network()
    data.__class__ = Poisoned
    before = [each.detach().clone() for each in model.parameters()]
    with pytest.raises(AbnFastError, match="epoch 1, step 0"):
        train(model, data, stripes(30, augment=False), CONFIG, tmp_path, log=_silent)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    failed = json.loads((tmp_path / "failed_batch.json").read_text())
    order = list(EpochSampler(len(data), CONFIG.seed, 0))
    assert failed == {"step": 0, "indices": order[: CONFIG.batch_size]}


def test_no_checkpoint_is_of_a_step_after_one_that_failed(tmp_path: Path) -> None:
    config, data = replace(CONFIG, checkpoint_steps=2), stripes()
    data.__class__ = PoisonedLater
    test = stripes(30, augment=False)
    made = trainer._Trainer(network(), data, test, None, config, RunFolder(tmp_path))
    made.log, made.checked_every = _silent, 10  # as on a GPU
    with pytest.raises(AbnFastError, match="epoch 1, step 2:"):
        made.run()
    assert read_checkpoint(tmp_path / "last.safetensors").training["images"] == 2 * CONFIG.batch_size


def test_models_of_earlier_epochs_are_kept_when_asked_for(tmp_path: Path) -> None:
    config, model = replace(CONFIG, epochs=3, keep_every=2), network()
    states: list[dict[str, torch.Tensor]] = []

    def remember(row: dict[str, float]) -> None:
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    train(model, stripes(), stripes(30, augment=False), config, tmp_path, log=_silent, metrics=remember)
    assert [path.name for path in tmp_path.glob("epoch-*")] == ["epoch-2.safetensors"]
    kept = read_checkpoint(tmp_path / "epoch-2.safetensors")
    assert kept.metrics["epoch"] == 2
    same = [all(torch.equal(value, each[name]) for name, value in kept.model.state_dict().items()) for each in states]
    assert same == [False, True, False]


def test_a_finished_run_keeps_its_summary_and_gets_the_files_that_it_lacks(tmp_path: Path) -> None:
    summary = run(tmp_path)
    assert summary["first_step_seconds"] > 0
    assert summary["images_per_second"] > 0
    metrics = (tmp_path / "metrics.csv").read_text()
    for name in ("metrics.csv", "curve.png"):
        (tmp_path / name).unlink()
    assert run(tmp_path, resume=True) == summary
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "metrics.csv").read_text() == metrics
    assert (tmp_path / "curve.png").exists()


def test_any_data_set_of_torch_is_trained_on_and_evaluated(tmp_path: Path) -> None:
    class Pictures(torch.utils.data.Dataset):
        classes, preprocessing = ("horizontal", "vertical", "none"), stripes().preprocessing

        def __len__(self) -> int:
            return 24

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            data = stripes(24)
            return Image.fromarray(data.images[index].numpy()), int(data.labels[index])

    model = network()
    summary = train(model, Pictures(), Pictures(), replace(CONFIG, epochs=1), tmp_path, log=_silent)
    expected = evaluate(model, stripes(24, augment=False))
    assert summary["test_top1"] == pytest.approx(expected["top1"])
    assert evaluate(model, Pictures())["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_frozen_norms_keep_their_statistics(tmp_path: Path) -> None:
    model = network()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    run(tmp_path, model, config=replace(CONFIG, epochs=1, freeze_batch_norm=True))
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def attributes(augment: bool) -> InMemoryImages:
    """Two yes-or-no tasks: horizontal stripes, any stripes."""
    data = stripes(augment=augment)
    labels = torch.stack([data.labels == 0, data.labels != 2], 1).float()
    return InMemoryImages(data.images, labels, ["horizontal", "stripes"], data.preprocessing, augment=augment)


@pytest.mark.parametrize("name", ["multi_task_abn_cifar_resnet8", "multi_task_cifar_resnet8"])
def test_a_multi_task_network_learns(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = create_model(name, num_classes=2)
    config = replace(CONFIG, epochs=8)
    summary = train(model, attributes(True), attributes(False), config, tmp_path, log=_silent)
    assert summary["test_accuracy"] > 80
    mean = (summary["test_accuracy.horizontal"] + summary["test_accuracy.stripes"]) / 2
    assert summary["test_accuracy"] == pytest.approx(mean)
    assert ("test_attention_accuracy" in summary) == ("abn" in name)


def test_tasks_need_a_multi_task_network_and_classes_one_without(tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match='any number of attributes: use a model with "multi_task_"'):
        train(create_model("abn_cifar_resnet8", num_classes=2), attributes(True), attributes(False), CONFIG, tmp_path)
    with pytest.raises(AbnFastError, match='one class an image: use a model without "multi_task_"'):
        run(tmp_path, create_model("multi_task_abn_cifar_resnet8", num_classes=3))
