"""The torch ops of add_relu_pool on a CPU; their kernels run in the interpreter, in a process of their own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs

from abn_fast import AbnFastError, kernels
from abn_fast.kernels._dispatch import force
from abn_fast.kernels.add_relu_pool import _ops
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]


def make_inputs(
    memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    x, residual = torch.randn(2, 3, 4, 3, 5).to(dtype).unbind()
    x, residual = (each.contiguous(memory_format=memory_format).detach() for each in (x, residual))
    return x.requires_grad_(), residual.requires_grad_()


def step(x: Tensor, residual: Tensor) -> Tensor:
    return kernels.add_relu_pool(x, residual).square().sum()


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_add_relu_pool.py")


@pytest.mark.slow
def test_the_kernels_agree_with_the_definition_at_larger_sizes() -> None:
    run_in_interpreter("interpreted_add_relu_pool.py", "-m", "slow")


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_it_is_the_mean_of_the_rectified_sum(memory_format: torch.memory_format, uses: bool) -> None:
    x, residual = inputs = make_inputs(memory_format)
    expected = F.adaptive_avg_pool2d(F.relu(x + residual), 1).flatten(1)
    with force(uses):
        pooled = kernels.add_relu_pool(x, residual)
        ours = torch.autograd.grad(pooled.square().sum(), inputs)
    torch.testing.assert_close(pooled, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(ours, torch.autograd.grad(expected.square().sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_keep_the_contract_of_torch(memory_format: torch.memory_format) -> None:
    x, residual = make_inputs(memory_format)
    torch.library.opcheck(_ops.add_relu_pool, (x, residual))
    d_pooled = torch.randn(3, 4, dtype=torch.float64)
    torch.library.opcheck(_ops.add_relu_pool_backward, (d_pooled, x.detach(), residual.detach()))


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
def test_the_op_is_in_the_graphs_of_a_gpu_and_its_definition_in_those_of_a_cpu(uses: bool) -> None:
    recorder = AotEagerAndRecordGraphs()
    torch._dynamo.reset()
    with force(uses):
        torch.compile(step, backend=recorder, fullgraph=True)(*make_inputs()).backward()
    targets = [{str(node.target) for node in graph.graph.nodes} for graph in (*recorder.fw_graphs, *recorder.bw_graphs)]
    forward, backward = ({name for name in names if name.startswith("abn_fast")} for names in targets)
    assert forward == ({"abn_fast.add_relu_pool.default"} if uses else set())
    assert backward == ({"abn_fast.add_relu_pool_backward.default"} if uses else set())


X = torch.zeros(2, 4, 3, 5)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: kernels.add_relu_pool(X[0], X[0]), r"\(4, 3, 5\); expected \[N, C, H, W\]"),
    "no channels": (lambda: kernels.add_relu_pool(X[:, :0], X[:, :0]), r"\(2, 0, 3, 5\).*at least 1"),
    "shape": (lambda: kernels.add_relu_pool(X, X[:1]), r"residual is .*\(1, 4, 3, 5\); expected .*\(2, 4, 3, 5\)"),
    "dtype": (lambda: kernels.add_relu_pool(X, X.half()), r"residual is torch.float16.*expected torch.float32"),
    "integers": (lambda: kernels.add_relu_pool(X.int(), X.int()), r"x of shape \(2, 4, 3, 5\) is torch.int32"),
    "device": (lambda: kernels.add_relu_pool(X, X.to("meta")), "residual of shape .* is on meta"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
