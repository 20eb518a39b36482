from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch.autograd import gradcheck

from abn_fast import AbnFastError, kernels
from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import force
from abn_fast.kernels.batch_statistics import _ops
from abn_fast.kernels.batch_statistics._plan import make_plan
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 4, 7), (1, 3, 1, 2), (8, 1, 1, 1), (2, 70, 9, 11)], ids=str)
def test_mean_and_biased_variance_are_those_of_var_mean(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    x = (torch.randn(shape, dtype=torch.float64) * 3 + 2).to(memory_format=memory_format)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    for statistics in (kernels.batch_statistics(x), reference.batch_statistics(x)):
        torch.testing.assert_close(tuple(statistics), (mean, var), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_those_of_var_mean(memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 4, 5, 2, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    d_mean, d_var = torch.randn(2, 4, dtype=torch.float64)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    (expected,) = torch.autograd.grad((mean, var), x, (d_mean, d_var))
    (ours,) = torch.autograd.grad(tuple(kernels.batch_statistics(x)), x, (d_mean, d_var))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_differences_of_the_outputs() -> None:
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: tuple(kernels.batch_statistics(x)), x)


@pytest.mark.parametrize("used", ["mean", "var"])
def test_one_statistic_alone_has_a_gradient(used: str) -> None:
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: getattr(kernels.batch_statistics(x), used), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_statistics_of_16_bit_values_are_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(4, 6, 30, 31) + 5).to(dtype).requires_grad_()
    statistics = kernels.batch_statistics(x)
    var, mean = torch.var_mean(x.detach().double(), (0, 2, 3), correction=0)
    for ours, expected in zip(statistics, (mean, var), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=0)
    (statistics.mean.sum() + statistics.var.sum()).backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_mean_far_above_the_deviation_does_not_cancel_the_variance(memory_format: torch.memory_format) -> None:
    x = (torch.randn(8, 4, 16, 16) * 0.1 + 300).to(memory_format=memory_format)
    expected = x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(kernels.batch_statistics(x).var.double(), expected, rtol=1e-3, atol=0)


def test_the_input_is_left_as_it_was() -> None:
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()
    kernels.batch_statistics(x)
    assert torch.equal(x, before)


def test_strided_views_are_read_as_what_they_are() -> None:
    x = torch.randn(6, 8, 9, 10, dtype=torch.float64)
    for view in (x[::2, 1::3, ::2, 1:], x.transpose(2, 3), x[:, :, :1].expand(-1, -1, 9, -1)):
        var, mean = torch.var_mean(view, (0, 2, 3), correction=0)
        torch.testing.assert_close(tuple(kernels.batch_statistics(view)), (mean, var), rtol=1e-12, atol=1e-12)


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_batch_statistics.py")


@pytest.mark.slow
def test_the_kernels_agree_with_the_definition_at_larger_sizes() -> None:
    run_in_interpreter("interpreted_batch_statistics.py", "-m", "slow")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_keep_the_contract_of_torch(memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=memory_format)
    torch.library.opcheck(_ops.batch_statistics, (x.clone().requires_grad_(),))
    mean, d_mean, d_var = torch.randn(3, 4, dtype=torch.float64).unbind()
    torch.library.opcheck(_ops.batch_statistics_backward, (x, mean.clone(), d_mean.clone(), None))
    torch.library.opcheck(_ops.batch_statistics_backward, (x, mean.clone(), None, d_var.clone()))


def step(x: Tensor) -> Tensor:
    mean, var = kernels.batch_statistics(x)
    return mean.square().sum() + var.square().sum()


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_compute_the_definition_on_a_cpu(memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    (expected,) = torch.autograd.grad(step(x), x)
    with force(True):
        (ours,) = torch.autograd.grad(step(x), x, create_graph=True)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert ours.is_contiguous(memory_format=memory_format)
    with pytest.raises(AbnFastError, match="no second derivative"):
        ours.sum().backward()


def test_forward_and_backward_ops_are_in_the_graphs_of_a_gpu() -> None:
    recorder = AotEagerAndRecordGraphs()
    torch._dynamo.reset()
    with force(True):
        torch.compile(step, backend=recorder, fullgraph=True)(torch.randn(2, 3, 4, 5, requires_grad=True)).backward()
    names = [{str(node.target) for node in graph.graph.nodes} for graph in (*recorder.fw_graphs, *recorder.bw_graphs)]
    assert "abn_fast.batch_statistics.default" in names[0]
    assert "abn_fast.batch_statistics_backward.default" in names[1]


X = torch.zeros(2, 4, 3, 5)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: kernels.batch_statistics(X[0]), r"\(4, 3, 5\); expected \[N, C, H, W\]"),
    "no channels": (lambda: kernels.batch_statistics(X[:, :0]), r"\(2, 0, 3, 5\).*at least 1"),
    "one value": (lambda: kernels.batch_statistics(X[:1, :, :1, :1]), r"\(1, 4, 1, 1\).*at least 2 values"),
    "empty batch": (lambda: kernels.batch_statistics(X[:0]), r"\(0, 4, 3, 5\).*at least 2 values"),
    "integers": (lambda: kernels.batch_statistics(X.int()), r"x of shape \(2, 4, 3, 5\) is torch.int32"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@given(
    batch=st.integers(1, 300),
    channels=st.integers(1, 3000),
    pixels=st.integers(1, 5000),
    itemsize=st.sampled_from([2, 4, 8]),
    channels_last=st.booleans(),
    partial_bytes=st.sampled_from([0, 16, 32]),
)
@settings(max_examples=300, deadline=None)
def test_every_plan_covers_every_element_once(
    batch: int, channels: int, pixels: int, itemsize: int, channels_last: bool, partial_bytes: int
) -> None:
    plan = make_plan(batch, channels, pixels, itemsize, channels_last, 4096, 512, partial_bytes)
    assert 0 <= plan.blocks * plan.block_c - channels < plan.block_c
    if channels_last:
        assert 0 <= plan.total * plan.block_p - batch * pixels < plan.block_p
    else:
        assert plan.total == batch * plan.chunks
        assert 0 <= plan.chunks * plan.block_p - pixels < plan.block_p
    assert 0 <= plan.splits * plan.steps - plan.total < plan.steps
    assert plan.block_p % plan.width == 0
    assert plan.block_c * plan.block_p <= 4096


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("channels", "pixels"), [(2048, 196), (1024, 49), (256, 256), (128, 64), (1000, 196), (100, 256)]
)
def test_a_gpu_is_filled(channels: int, pixels: int, channels_last: bool) -> None:
    for itemsize in (2, 4):
        assert make_plan(32, channels, pixels, itemsize, channels_last, 4096, 512, 16).programs >= 128
