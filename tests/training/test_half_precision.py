"""Training in float16 and TF32: what a GPU does of it, with the same scaler on the CPU."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from abn_fast import AbnFastError, create_model
from abn_fast.checkpoints import read_checkpoint
from abn_fast.models import Network
from abn_fast.training import OptimizerConfig, TrainingConfig, evaluation, step, train
from abn_fast.training.device import set_float32_products
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.step import TrainingStep
from tests.training._data import stripes

CONFIG = TrainingConfig(epochs=2, batch_size=48, optimizer=OptimizerConfig(lr=0.05), precision="fp16")
IMAGES = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6) % 3


@pytest.fixture(autouse=True)
def _scaled_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float16's loss scaling where the computation itself stays in float32."""
    monkeypatch.setattr(step, "chosen_precision", lambda device, precision: precision)
    for module in (step, evaluation):
        monkeypatch.setattr(module, "autocast", lambda device, precision: nullcontext())


def network() -> Network:
    torch.manual_seed(0)
    return create_model("abn_cifar_resnet8", num_classes=3, width=4).train()


def training_step(model: Network, config: TrainingConfig = CONFIG, scale: float = 2.0**16) -> TrainingStep:
    made = TrainingStep(model, make_optimizer(model, config), config)
    if config.precision == "fp16":
        made.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return made


def weights(model: Network) -> list[Tensor]:
    return [each.detach().clone() for each in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_scaling_by_a_power_of_two_changes_nothing(clip_norm: float | None) -> None:
    scaled, plain = network(), network()
    common = replace(CONFIG, clip_norm=clip_norm, accumulation_steps=2)
    for model, config in ((scaled, common), (plain, replace(common, precision="fp32"))):
        made = training_step(model, config)
        for index in range(3):
            made(index, IMAGES, LABELS, 0.05)
    for a, b in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_overflows_is_skipped_and_the_scale_halved() -> None:
    model = network()
    next(model.parameters()).register_hook(_in_float16)
    made, before = training_step(model, scale=2.0**40), weights(model)
    made(0, IMAGES, LABELS, 0.05)
    assert made.failed_step == -1
    assert same(before, weights(model))
    assert made.scaler.get_scale() == 2.0**39
    made.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    made(1, IMAGES, LABELS, 0.05)
    assert not same(before, weights(model))


def _in_float16(gradient: Tensor) -> Tensor:
    return gradient.half().float()


def test_a_loss_that_is_not_finite_stops_this_and_later_updates() -> None:
    model = network()
    made = training_step(model)
    made(0, IMAGES, LABELS, 0.05)
    before = weights(model)
    statistics = [each.clone() for each in model.buffers()]
    made(1, IMAGES * float("nan"), LABELS, 0.05)
    for buffer, kept in zip(model.buffers(), statistics, strict=True):
        buffer.copy_(kept)
    made(2, IMAGES, LABELS, 0.05)
    assert made.failed_step == 1
    assert same(before, weights(model))


def test_a_gradient_that_no_scale_makes_finite_stops_the_run() -> None:
    model = network()
    next(model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    made, before = training_step(model, scale=4.0), weights(model)
    failed = []
    for index in range(4):
        made(index, IMAGES, LABELS, 0.05)
        failed.append(int(made.failed_step))
    assert failed == [-1, -1, 2, 2]  # scaled by 4, 2, 1
    assert same(before, weights(model))


def test_the_scale_is_resumed(tmp_path: Path) -> None:
    for epochs in (1, 2):
        config = replace(CONFIG, epochs=epochs)
        train(network(), stripes(), stripes(9, False), config, tmp_path, resume=epochs == 2, log=lambda line: None)
        scaler = read_checkpoint(tmp_path / "last.safetensors").training["scaler"]
        assert (scaler["scale"], scaler["_growth_tracker"]) == (2.0**16, 2 * epochs)


@pytest.fixture
def _products() -> Iterator[None]:
    yield
    set_float32_products("fp32")


@pytest.mark.usefixtures("_products")
def test_tf32_is_for_products_and_convolutions_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    set_float32_products("tf32")
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    set_float32_products("fp32")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    monkeypatch.undo()
    with pytest.raises(AbnFastError, match="precision='tf32' is for GPUs, not cpu"):
        training_step(network(), replace(CONFIG, precision="tf32"))
