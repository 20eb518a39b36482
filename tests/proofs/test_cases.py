from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from abn_fast import kernels
from abn_fast.proofs._products import WithoutProducts
from abn_fast.proofs.cases import CIFAR, IMAGENET, OPS, Case, cases

N, K, PIXELS = 32, 1000, 14 * 14
X, F, Z = N * 1024 * PIXELS, N * 2048 * PIXELS, N * K * PIXELS
TINY = CIFAR._replace(batch=2, channels=8, stage_channels=6, classes=5, height=3, width=4)


def case_of(op: str) -> Case:
    return next(cases(op))


@pytest.mark.parametrize(
    ("op", "forward", "backward"),
    [
        ("attention_gate", 2 * X, 3 * X),
        ("class_evidence", 2 * Z, 3 * Z),
        ("class_evidence_affine", Z, 3 * Z),
        ("norm_relu_pool", 2 * F, 2 * F),
        ("norm_relu_pool_affine", F, 2 * F),
        ("batch_statistics", F, 2 * F),
    ],
)
def test_floors_are_those_of_the_design(op: str, forward: int, backward: int) -> None:
    case = case_of(op)
    assert case.size == IMAGENET
    assert case.floor("forward", torch.float16) == 2 * forward
    assert case.floor("backward", torch.float32) == 4 * backward


def test_the_floor_of_several_maps_counts_each() -> None:
    many = case_of("attention_gate").at(IMAGENET._replace(maps=40))
    assert (many.floor("forward", torch.float16), many.floor("backward", torch.float16)) == (2 * 41 * X, 2 * 42 * X)


def test_the_floor_of_the_fused_product_is_what_it_reads_and_its_small_results() -> None:
    case = case_of("class_evidence_inference")
    assert case.directions == ("forward",)
    assert F + K * 2048 < case.floor("forward", torch.float16) / 2 < 1.01 * (F + K * 2048)


def test_limits_are_those_of_the_issue() -> None:
    evidence = [case.limit(dtype) for case in cases("class_evidence") for dtype in (torch.float16, torch.float32)]
    assert evidence == [1.10, 1.06, 1.25, 1.15]
    assert [case.limit(torch.bfloat16) for case in cases("class_evidence_inference")] == [1.10, 1.20]
    assert case_of("attention_gate").limit(torch.float16) == 1.03
    assert case_of("norm_relu_pool").limit(torch.float32) == 1.05


def test_every_op_of_the_package_has_a_case() -> None:
    helpers = {"fuses_inference", "fold_norm", "compute_dtype", "accumulator", "map_taps", "norm_scale_shift"}
    plain = {"global_average_pool"}  # left to torch
    public = {name for name in kernels.__all__ if name[0].islower()} - helpers - plain
    assert {case.op.partition(" ")[0] for case in cases()} >= public


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_every_case_can_be_called_and_differentiated(op: str, memory_format: torch.memory_format) -> None:
    case = Case(op, TINY, OPS[op])
    inputs = case.inputs(torch.float32, memory_format)
    assert inputs[0].is_contiguous(memory_format=memory_format)
    outputs = case.call(inputs)
    if "backward" in case.directions:
        assert any(d is not None and d.abs().sum() > 0 for d in case.backward(outputs, inputs))
    assert tuple(case.step(torch.float32, memory_format)) == case.directions


class Executed(TorchDispatchMode):
    """The ops that are executed, but for those on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(x.is_meta for x in args if isinstance(x, Tensor)):
            self.names.add(op.name())
        return op(*args, **(kwargs or {}))


def test_products_are_left_out_also_inside_of_ops() -> None:
    case = Case("norm_class_conv", TINY, OPS["norm_class_conv"])
    inputs = case.inputs(torch.float32, torch.contiguous_format)
    with Executed() as executed:
        list(case.step(torch.float32, torch.contiguous_format))
    products = {"aten::mm", "aten::bmm", "aten::baddbmm", "aten::addmm", "aten::addmm_", "aten::convolution"}
    assert executed.names
    assert not {name for name in executed.names if name in products or name.startswith("abn_fast")}
    with WithoutProducts():
        (left_out,) = case.call(inputs)
    (z,) = case.call(inputs)
    assert (left_out.shape, left_out.stride(), left_out.dtype) == (z.shape, z.stride(), z.dtype)
