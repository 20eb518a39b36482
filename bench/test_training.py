"""A training step of our models on the CPU, channels_last, against other ways to run it."""

from collections.abc import Callable
from typing import Any

import torch

from abn_fast import create_model
from abn_fast.training import TrainingConfig, autocast
from abn_fast.training.config import Precision
from abn_fast.training.objective import loss_of
from abn_fast.training.optimizer import make_optimizer
from bench._compare import record

BATCH, SIZE = 128, 32


def training_step(precision: Precision) -> Callable[[], float]:
    model = create_model("abn_cifar_resnet20").to(memory_format=torch.channels_last)
    config = TrainingConfig(precision=precision)
    optimizer = make_optimizer(model, config)
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10

    def step() -> float:
        with autocast(torch.device("cpu"), precision):
            output = model(images)
        loss = loss_of(output, labels, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def test_float32_against_bfloat16_autocast(benchmark: Any) -> None:
    case = f"abn_cifar_resnet20, batch {BATCH}, {SIZE}x{SIZE}"
    record(benchmark, case, "float32", "bf16 autocast", training_step("fp32"), training_step("bf16"), rounds=7)
