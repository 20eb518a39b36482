"""Two processes on this CPU against one process that does the work of both."""

import copy
import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from abn_fast import AbnFastError, create_model
from abn_fast.data import EpochSampler, ImageDataset, InMemoryImages, SkipUnreadable, UnreadableImageError
from abn_fast.models import Network
from abn_fast.training import OptimizerConfig, TrainingConfig, distributed, evaluate, train
from abn_fast.training.config import Compile
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.step import TrainingStep
from tests.training._data import stripes

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
CONFIG = TrainingConfig(optimizer=OptimizerConfig(lr=0.1, weight_decay=0), accumulation_steps=2)


def in_two_processes(work: Callable[..., Any], folder: Path) -> list[Any]:
    """What the work returns in each process."""
    folder.mkdir(exist_ok=True)
    spawn(_process, (work, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _process(rank: int, work: Callable[..., Any], folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        torch.save(work(), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def network() -> Network:
    torch.manual_seed(0)
    return create_model("abn_cifar_resnet8", num_classes=3).double()


def batch() -> tuple[Tensor, Tensor]:
    images = torch.randn(7, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(7) % 3


def one_step() -> dict[str, Tensor]:
    model, (images, labels), rank = network().train(), batch(), distributed.rank()
    step = TrainingStep(model, make_optimizer(model, CONFIG), CONFIG)
    own = slice(rank, None, 2)
    step(0, images[own], labels[own], 0.1, share=len(images[own]) * 2 / len(images))
    return dict(model.state_dict())


def test_the_update_is_that_of_one_process_that_runs_both_shares(tmp_path: Path) -> None:
    first, second = in_two_processes(one_step, tmp_path)
    model, (images, labels) = network().train(), batch()
    gradients = [torch.zeros_like(each) for each in model.parameters()]
    for rank in range(2):
        own = images[rank::2], labels[rank::2]
        share = copy.deepcopy(model)
        config = TrainingConfig(optimizer=OptimizerConfig(lr=1.0, momentum=0, weight_decay=0), accumulation_steps=2)
        TrainingStep(share, make_optimizer(share, config), config)(0, *own, 1.0)
        for gradient, before, after in zip(gradients, model.parameters(), share.parameters(), strict=True):
            gradient += (before - after).detach() * len(own[0]) / 7
    for (name, before), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], before.detach() - 0.1 * gradient, rtol=1e-6, atol=1e-9)


def steps(mode: Compile) -> dict[str, Tensor]:
    """Weights and statistics after steps of two parts."""
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=3, width=8).double().to(memory_format=torch.channels_last)
    config = TrainingConfig(precision="fp32", compile=mode, accumulation_steps=2)
    step = TrainingStep(model.train(), make_optimizer(model, config), config)
    generator = torch.Generator().manual_seed(distributed.rank())
    for index in range(3):
        images = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=generator)
        step(index, images.to(memory_format=torch.channels_last), torch.arange(4) % 3, 0.1)
    return dict(model.state_dict())


@pytest.mark.slow
def test_compiled_steps_of_two_processes_are_their_eager_ones(tmp_path: Path) -> None:
    eager, compiled = (in_two_processes(partial(steps, mode), tmp_path / mode) for mode in ("off", "default"))
    for key, value in compiled[0].items():
        if "running" not in key:
            assert torch.equal(value, compiled[1][key]), key
        for ours, expected in zip(compiled, eager, strict=True):
            torch.testing.assert_close(ours[key], expected[key], rtol=1e-8, atol=1e-10, msg=key)


def strides_of_gradients() -> list[Any]:
    model, (images, labels) = network().train().to(memory_format=torch.channels_last), batch()
    step = TrainingStep(model, make_optimizer(model, CONFIG), CONFIG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step(0, images.to(memory_format=torch.channels_last), labels, 0.1)
    return [str(each.message) for each in caught if "bucket view" in str(each.message)]


def test_gradients_lie_as_the_processes_exchange_them(tmp_path: Path) -> None:
    assert in_two_processes(strides_of_gradients, tmp_path) == [[], []]


class OneOfNoNumber(InMemoryImages):
    """Images of which the last one is of no number."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        samples = super().__getitems__(indices)
        last = len(self) - 1
        return [
            (image * (float("nan") if i == last else 1), label)
            for i, (image, label) in zip(indices, samples, strict=True)
        ]


def failing_run() -> list[Any]:
    data, folder = stripes(12), Path("run").absolute()
    data.__class__ = OneOfNoNumber
    config = TrainingConfig(epochs=1, batch_size=5, seed=3)
    try:
        train(network().float(), data, stripes(3, augment=False), config, folder, log=lambda line: None)
    except AbnFastError as error:
        return [str(error), json.loads((folder / "failed_batch.json").read_text())]
    return []


def test_the_batch_that_is_not_finite_is_saved_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    order = list(EpochSampler(12, 3, 0))
    step = order.index(11) // 5
    for message, saved in in_two_processes(failing_run, tmp_path):
        assert f"not finite in epoch 1, step {step}:" in message
        assert saved == {"step": step, "indices": order[5 * step : 5 * step + 5]}


UNREADABLE = tuple(list(EpochSampler(12, 3, 0))[1:4:2])
"""All images of the second process in the first batch."""


class SomeUnreadable(InMemoryImages):
    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        for index in indices:
            self._check(index)
        return super().__getitems__(indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        self._check(index)
        return super().__getitem__(index)

    def _check(self, index: int) -> None:
        if index in UNREADABLE:
            raise UnreadableImageError(f"image {index}")


class Following(InMemoryImages):
    """The image that follows in place of each unreadable one."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Any]]:
        readable = [i for i in range(2 * len(self)) if i % len(self) not in UNREADABLE]
        return super().__getitems__([min(j for j in readable if j >= i) % len(self) for i in indices])


def run_of(kind: type[InMemoryImages]) -> dict[str, Tensor]:
    data: ImageDataset = stripes(12)
    data.__class__ = kind
    if kind is SomeUnreadable:
        data = SkipUnreadable(data, at_most=2)
    model = network().float()
    config = TrainingConfig(epochs=1, batch_size=4, seed=3)
    train(model, data, stripes(3, augment=False), config, Path(kind.__name__).absolute(), log=lambda line: None)
    return dict(model.state_dict())


def test_a_process_that_can_read_no_image_of_a_batch_trains_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    skipping, expected = (
        in_two_processes(partial(run_of, kind), tmp_path / kind.__name__) for kind in (SomeUnreadable, Following)
    )
    for first, second, wanted in zip(skipping[0].values(), skipping[1].values(), expected[0].values(), strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, wanted)


def shares_of_an_evaluation() -> dict[str, float]:
    return evaluate(network().float(), stripes(31, augment=False), batch_size=8)


def test_every_image_is_evaluated_once(tmp_path: Path) -> None:
    alone = shares_of_an_evaluation()
    for together in in_two_processes(shares_of_an_evaluation, tmp_path):
        assert together == pytest.approx(alone, rel=1e-6)


def flags() -> list[Any]:
    rank = distributed.rank()
    device = torch.device("cpu")
    model = torch.nn.BatchNorm2d(1)
    model.running_mean.fill_(rank + 5)  # type: ignore[union-attr]  # it tracks statistics
    distributed.copy_buffers_of_the_first(model)
    return [
        distributed.any_process(rank == 1, device),
        distributed.any_process(False, device),
        distributed.sum_over_processes(torch.tensor(rank + 1.0)).item(),
        model.running_mean.item(),  # type: ignore[union-attr]  # likewise
    ]


def test_processes_know_of_each_other(tmp_path: Path) -> None:
    assert in_two_processes(flags, tmp_path) == [[True, False, 3.0, 5.0]] * 2


def test_alone_everything_is_its_own() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.any_process(True, torch.device("cpu"))
    assert distributed.sum_over_processes(torch.tensor(2.0)).item() == 2
