"""Accuracy after training in bfloat16 and in float32 on DigitsInTheWild: small budget, three seeds each; on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from abn_fast import create_model
from abn_fast.benchmark_report import Case, Comparison
from abn_fast.data import DigitsInTheWild
from abn_fast.training import OptimizerConfig, ScheduleConfig, TrainingConfig, train
from abn_fast.training.config import Precision
from bench._compare import note

SEEDS = (0, 1, 2)
IMAGES, TEST_IMAGES, EPOCHS = 1600, 500, 3


def accuracy(precision: Precision, seed: int, folder: Path) -> float:
    torch.manual_seed(seed)
    model = create_model("abn_cifar_resnet8", num_classes=10).to(memory_format=torch.channels_last)
    config = TrainingConfig(
        epochs=EPOCHS,
        batch_size=32,
        optimizer=OptimizerConfig(nesterov=True, weight_decay=1e-3),
        schedule=ScheduleConfig(warmup_epochs=0.3),
        precision=precision,
        seed=seed,
    )
    training = DigitsInTheWild("train", IMAGES, image_size=32, augment=True, augmentation_seed=seed)
    test = DigitsInTheWild("test", TEST_IMAGES, image_size=32)
    summary = train(model, training, test, config, folder, log=lambda line: None)
    return float(summary["test_top1"])


@pytest.mark.models("abn_cifar_resnet8")
def test_bfloat16_is_as_accurate_as_float32(tmp_path: Path, benchmark: Any) -> None:
    def all_runs() -> dict[str, list[float]]:
        precisions: tuple[Precision, ...] = ("fp32", "bf16")
        return {each: [accuracy(each, seed, tmp_path / f"{each}{seed}") for seed in SEEDS] for each in precisions}

    found = benchmark.pedantic(all_runs, rounds=1)
    benchmark.extra_info.update(found)
    case = Case("abn_cifar_resnet8", batch=32, size=32, classes=10, dtype="bf16", mode="training, test errors")
    wrong = {name: [1 - each / 100 for each in found[name]] for name in ("bf16", "fp32")}
    note(benchmark, Comparison.of(case, "share", wrong))
    print(f"\ntop-1 of seeds {SEEDS} in float32 {found['fp32']}, in bfloat16 {found['bf16']}")
    mean = sum(found["bf16"]) / len(SEEDS)
    assert min(found["fp32"]) <= mean or mean == pytest.approx(min(found["fp32"]), abs=1.0)
