"""A training step of our models against the same networks trained as published, and as tuned by hand; on the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.training import TrainingConfig, autocast
from abn_fast.training.config import Compile, Precision
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.step import TrainingStep
from bench._compare import record
from bench.peers.published_network import PublishedNetwork, published_step

LR = 0.1
CASES = {
    "abn_cifar_resnet20, batch 128, 32x32": ("abn_cifar_resnet20", 128, 32),
    "abn_densenet_bc40_12, batch 64, 32x32": ("abn_densenet_bc40_12", 64, 32),
    "abn_resnet18, batch 16, 224x224": ("abn_resnet18", 16, 224),
}


def network(case: str) -> AttentionBranchNetwork:
    torch.manual_seed(0)
    model = create_model(CASES[case][0], num_classes=100)
    assert isinstance(model, AttentionBranchNetwork)
    return model.train()


def batch(case: str, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    _, count, size = CASES[case]
    return torch.randn(count, 3, size, size).contiguous(memory_format=layout), torch.arange(count) % 100


def our_step(case: str, precision: Precision = "auto", mode: Compile = "auto") -> Callable[[], float]:
    model = network(case).to(memory_format=torch.channels_last)
    config = TrainingConfig(precision=precision, compile=mode)
    step = TrainingStep(model, make_optimizer(model, config), config)
    images, labels = batch(case, torch.channels_last)
    return lambda: step(0, images, labels, LR).loss.item()


def peer_step(case: str, layout: torch.memory_format, precision: Precision, compiled: bool) -> Callable[[], float]:
    model: nn.Module = PublishedNetwork(network(case)).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    images, labels = batch(case, layout)
    if compiled:
        model.compile()

    def step() -> float:
        with autocast(torch.device("cpu"), precision):
            return published_step(model, optimizer, images, labels)

    return step


PEERS: dict[str, tuple[torch.memory_format, Precision, bool]] = {
    "as published": (torch.contiguous_format, "fp32", False),
    "published model, channels_last": (torch.channels_last, "fp32", False),
    "published model, channels_last, bf16": (torch.channels_last, "bf16", False),
    "published model, channels_last, compiled": (torch.channels_last, "fp32", True),
    "published model, channels_last, bf16, compiled": (torch.channels_last, "bf16", True),
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES)
def test_training_step(case: str, peer: str, benchmark: Any) -> None:
    first, theirs = our_step(case), peer_step(case, *PEERS[peer])
    if PEERS[peer][1] == "fp32":
        assert first() == pytest.approx(theirs(), rel=0.05)
    record(benchmark, case, "our step", peer, our_step(case), theirs, rounds=5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_compiled_step_against_eager(case: str, precision: Precision, benchmark: Any) -> None:
    compiled, eager = our_step(case, precision, "default"), our_step(case, precision, "off")
    assert compiled() == pytest.approx(eager(), rel=0.05)
    record(benchmark, case, f"compiled, {precision}", f"eager, {precision}", compiled, eager, rounds=5)
