"""class_evidence's way on a CPU against its definition."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast.kernels import _class_evidence_cpu, reference

FORMATS = [torch.contiguous_format, torch.channels_last]
EPS = 1e-5
class_evidence: Any = _class_evidence_cpu.class_evidence


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_inputs(
    size: tuple[int, int] = (4, 5), memory_format: torch.memory_format = torch.contiguous_format, classes: int = 6
) -> tuple[Tensor, ...]:
    z = (torch.randn(3, classes, *size, dtype=torch.float64) + 1).contiguous(memory_format=memory_format)
    vectors = torch.rand(classes).double() + 0.5, torch.randn(classes).double()
    return tuple(x.requires_grad_() for x in (z, *vectors, torch.randn(1, classes, 3, 3).double()))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 4), (7, 7)], ids=str)
@pytest.mark.parametrize("classes", [1, 6])
def test_values_and_gradients_are_those_of_the_definition(
    classes: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    inputs = make_inputs(size, memory_format, classes)
    projections = torch.randn(3, classes).double(), torch.randn(3, 1, *size).double()
    found = []
    definition: Any = reference.class_evidence
    for op in (class_evidence, definition):
        evidence, statistics = op(*inputs, EPS)
        found.append([*evidence, *statistics, *torch.autograd.grad(evidence, inputs, projections)])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert found[0][4].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("used", [0, 1], ids=["pooled", "score"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_the_differences_of_each_output(memory_format: torch.memory_format, used: int) -> None:
    inputs = make_inputs((2, 3), memory_format, classes=2)
    assert gradcheck(lambda *x: class_evidence(*x, EPS)[0][used], inputs)


def test_of_what_is_as_large_as_z_only_z_is_kept() -> None:
    z, *vectors = make_inputs((7, 7))
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        class_evidence(z, *vectors, EPS)
    assert sum(x.untyped_storage().nbytes() for x in kept) <= 1.2 * z.nbytes


def test_the_score_holds_no_more_memory_than_it_needs() -> None:
    (_, score), _ = class_evidence(*make_inputs((7, 7)), EPS)
    assert score.untyped_storage().nbytes() == score.nbytes


def test_16_bit_values_and_autocast_are_left_to_the_definition() -> None:
    z = torch.randn(2, 3, 4, 5)
    assert _class_evidence_cpu.is_suited(z)
    assert not _class_evidence_cpu.is_suited(z.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not _class_evidence_cpu.is_suited(z)
