"""A training step against the same step written out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from abn_fast import AbnFastError, create_model
from abn_fast.models import Network
from abn_fast.training import LossConfig, MixConfig, OptimizerConfig, TrainingConfig
from abn_fast.training._batches import make_mix, seed_step, sharded_batches
from abn_fast.training.objective import loss_of
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.step import TrainingStep, compile_mode
from bench.peers.published_network import PublishedNetwork, published_step

LR = 0.1


def network(name: str = "abn_cifar_resnet8", **arguments: Any) -> Network:
    torch.manual_seed(0)
    return create_model(name, num_classes=5, **arguments).double()


def batch(count: int = 6, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator), torch.arange(count) % 5


def frozen(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def step_of(model: Network, **settings: Any) -> TrainingStep:
    config = TrainingConfig(optimizer=OptimizerConfig(lr=LR), **settings)
    return TrainingStep(model, make_optimizer(model, config), config)


def assert_same(model: nn.Module, other: nn.Module, tolerance: float = 1e-10) -> None:
    for (name, ours), theirs in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("name", ["abn_cifar_resnet8", "cifar_resnet8"])
def test_a_batch_in_parts_is_the_whole_batch_where_no_norm_looks_at_it(name: str) -> None:
    images, labels = batch(7)
    whole, parts = network(name), network(name)
    for model, count in ((whole, 1), (parts, 3)):
        frozen(model.train())
        step_of(model, accumulation_steps=count)(0, images, labels, LR)
    assert_same(parts, whole)


def test_more_parts_than_images_are_one_image_each() -> None:
    images, labels = batch(2)
    model = network()
    frozen(model.train())
    result = step_of(model, accumulation_steps=5)(0, images, labels, LR)
    assert result.loss.isfinite()
    assert isinstance(result.output, tuple)
    assert result.output[1].shape == (2, 5)


def test_gradients_are_clipped_to_their_common_norm() -> None:
    images, labels = batch()
    ours, theirs = network(), network()
    step_of(ours.train(), clip_norm=0.1)(0, images, labels, LR)
    optimizer = torch.optim.SGD(theirs.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    loss_of(theirs.train()(images), labels, LossConfig()).backward()
    assert clip_grad_norm_(theirs.parameters(), 0.1) > 0.1
    optimizer.step()
    assert_same(ours, theirs)


def test_a_step_that_is_not_finite_changes_no_weight_and_neither_do_later_ones() -> None:
    images, labels = batch()
    model = network().train()
    step = step_of(model)
    step(0, images, labels, LR)
    assert step.failed_step == -1
    before = [each.detach().clone() for each in model.parameters()]
    step(1, images * float("nan"), labels, LR)
    assert step.failed_step == 1
    step(2, images, labels, LR)
    assert step.failed_step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "steps", "lr"),
    [
        ("abn_cifar_resnet20", 20, LR),
        pytest.param("abn_cifar_resnet110", 3, 0.01, marks=pytest.mark.slow),
        pytest.param("abn_densenet_bc100_12", 3, 0.01, marks=pytest.mark.slow),
        pytest.param("abn_wide_resnet28_10", 3, 0.01, marks=pytest.mark.slow),
        pytest.param("abn_resnet50", 3, 0.01, marks=pytest.mark.slow),
    ],
)
def test_steps_are_those_of_the_published_loop(name: str, steps: int, lr: float) -> None:
    torch.manual_seed(0)
    ours = create_model(name, num_classes=10).double().train()
    count, size = {"abn_wide_resnet28_10": (2, 16), "abn_resnet50": (2, 64)}.get(name, (8, 16))
    theirs = PublishedNetwork(ours).train()  # type: ignore[arg-type]  # an ABN by its name
    step = step_of(ours)
    optimizer = torch.optim.SGD(theirs.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(1)
    for index in range(steps):
        images = torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator)
        labels = torch.randint(10, (count,), generator=generator)
        step(index, images, labels, lr)
        published_step(theirs, optimizer, images, labels)
    peers = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        peer = peers[key.replace("attention_branch.stage", "attention_stage").replace("attention_branch.", "")]
        if key == "attention_branch.head.bn1.bias":  # its true gradient is 0
            assert (parameter - peer).abs().max() < 1e-12
        else:
            assert (parameter - peer).norm() < 1e-8 * peer.norm(), key


@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one_in_one_graph_at_any_size() -> None:
    counters = torch._dynamo.utils.counters
    counters.clear()
    for graphs, size in enumerate((8, 12), start=1):
        images, labels = batch(4, size)
        eager, compiled = network(), network()
        step_of(eager.train(), compile="off")(0, images, labels, LR)
        step = step_of(compiled.train(), compile="default")
        step(0, images, labels, LR)
        assert_same(compiled, eager, 1e-8)
        step(1, images, labels, LR)
        assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixed_batches_have_the_labels_of_their_parts(mixup: float, cutmix: float) -> None:
    mix = make_mix(MixConfig(mixup, cutmix), 5)
    assert mix is not None
    images = torch.arange(5.0)[:, None, None, None].expand(5, 3, 8, 8)
    seed_step(1, 2, 0)
    mixed, target = mix(images.clone(), torch.arange(5))
    seed_step(1, 2, 0)
    again, _ = mix(images.clone(), torch.arange(5))
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, images)
    torch.testing.assert_close(target.sum(1), torch.ones(5))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), target @ torch.arange(5.0))


def test_no_mixing_is_no_function() -> None:
    assert make_mix(MixConfig(), 5) is None


def test_every_image_of_an_epoch_is_in_one_batch_of_one_process() -> None:
    order = torch.randperm(103).tolist()
    shares = [sharded_batches(order, 10, rank, 3) for rank in range(3)]
    assert [[total for total, _ in share] for share in shares] == [[10] * 10 + [3]] * 3
    for start, *parts in zip(range(0, 103, 10), *shares, strict=True):
        assert sorted(i for _, indices in parts for i in indices) == sorted(order[start : start + 10])
        assert max(len(indices) for _, indices in parts) - min(len(indices) for _, indices in parts) <= 1
    assert [total for total, _ in sharded_batches(order[:22], 10, 0, 3)] == [10, 10]


def test_cuda_graphs_are_for_whole_batches_of_one_process() -> None:
    modes = [
        compile_mode(TrainingConfig(compile=mode, accumulation_steps=parts), torch.device("cuda"))  # type: ignore[arg-type]  # a mode
        for mode, parts in (("auto", 2), ("reduce-overhead", 1), ("max-autotune", 1), ("max-autotune", 2))
    ]
    assert modes == ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
    with pytest.raises(AbnFastError, match="compile='reduce-overhead' is for one process"):
        step_of(network(), compile="reduce-overhead", accumulation_steps=2)


def test_precisions_of_gpus_are_refused_on_a_cpu() -> None:
    with pytest.raises(AbnFastError, match="precision='fp16' is for GPUs, not cpu"):
        step_of(network(), precision="fp16")
