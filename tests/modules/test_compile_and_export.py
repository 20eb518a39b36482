"""Compiled and exported networks give what eager ones give."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abn_fast import abn_loss
from abn_fast.modules import (
    ABNOutput,
    AttentionBranch,
    AttentionBranchNetwork,
    AttentionHead,
    LogMapAttentionHead,
    NormReluPool,
    PerceptionBranch,
)

K = 4
HEADS = [AttentionHead, LogMapAttentionHead]


def make(head: type[AttentionHead | LogMapAttentionHead]) -> AttentionBranchNetwork:
    """A small network that holds every module of the library."""
    torch.manual_seed(0)
    return AttentionBranchNetwork(
        nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU()),
        AttentionBranch(nn.Sequential(nn.Conv2d(5, 6, 3, 1, 1), nn.ReLU()), head(6, K)),
        PerceptionBranch(nn.Conv2d(5, 6, 3, 2, 1), NormReluPool(6), nn.Linear(6, K)),
        K,
    )


def images(batch: int = 2, size: tuple[int, int] = (9, 12)) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, *size)


def train_step(model: Any, parameters: nn.Module) -> dict[str, Tensor]:
    output = model(images())
    abn_loss(output, torch.tensor([0, 3])).backward()
    results: dict[str, Tensor] = {name: p.grad for name, p in parameters.named_parameters() if p.grad is not None}
    assert len(results) == len(list(parameters.parameters()))
    results |= output._asdict()
    return results | dict(parameters.named_buffers())


def assert_compiles(head: type[AttentionHead | LogMapAttentionHead], backend: str) -> None:
    model = make(head)
    eager = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for _ in range(2):
        ours, expected = train_step(compiled, model), train_step(eager, eager)
        for name, value in expected.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
    model.eval()
    with torch.no_grad():
        output = compiled(images())
        assert isinstance(output, ABNOutput)
        torch.testing.assert_close(tuple(output), tuple(eager.eval()(images())), rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("head", HEADS)
def test_training_and_evaluation_compile_to_one_graph(head: type[AttentionHead | LogMapAttentionHead]) -> None:
    assert_compiles(head, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_inductor_gives_the_same_numbers(head: type[AttentionHead | LogMapAttentionHead]) -> None:
    assert_compiles(head, "inductor")


@pytest.mark.parametrize("head", HEADS)
def test_an_exported_network_takes_any_batch_and_size(head: type[AttentionHead | LogMapAttentionHead]) -> None:
    model = make(head).eval()
    sizes = {0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(model, (images(),), dynamic_shapes=(sizes,))
    for x in (images(), images(1), images(5, (16, 7))):
        output = program.module()(x)
        assert isinstance(output, ABNOutput)
        torch.testing.assert_close(tuple(output), tuple(model(x)))


def test_an_exported_network_takes_a_given_map() -> None:
    model = make(AttentionHead).eval()
    x, given = images(), torch.rand(2, 1, 5, 6)
    program = torch.export.export(model, (x, given))
    torch.testing.assert_close(tuple(program.module()(x, given)), tuple(model(x, given)))
