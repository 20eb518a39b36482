"""The torch ops of norm_relu_pool on a CPU; their kernels run in the interpreter, in a process of their own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs

from abn_fast import AbnFastError, kernels
from abn_fast.kernels._dispatch import force
from abn_fast.kernels.norm_relu_pool import _ops
from abn_fast.kernels.norm_relu_pool._plan import make_plan
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]
EPS = 1e-5


def make_inputs(
    memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    x = torch.randn(3, 4, 3, 5).to(dtype).contiguous(memory_format=memory_format)
    vectors = torch.randn(2, 4, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    return [each.detach().requires_grad_() for each in (x, *vectors)]


def step(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    pooled, statistics = kernels.norm_relu_pool(x, weight, bias, EPS)
    given = kernels.norm_relu_pool_affine(x, weight, bias)
    return pooled.square().sum() + given.square().sum() + statistics.mean.detach().sum()


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_norm_relu_pool.py")


@pytest.mark.slow
def test_the_kernels_agree_with_the_definition_at_larger_sizes() -> None:
    run_in_interpreter("interpreted_norm_relu_pool.py", "-m", "slow")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_keep_the_contract_of_torch(memory_format: torch.memory_format) -> None:
    x, weight, bias = inputs = make_inputs(memory_format)
    torch.library.opcheck(_ops.norm_relu_pool, (*inputs, EPS, True))
    torch.library.opcheck(_ops.norm_relu_pool_affine, (*inputs, True))
    x, weight, bias = (each.detach() for each in inputs)
    torch.library.opcheck(_ops.norm_relu_pool, (x, weight, bias, EPS, False))
    torch.library.opcheck(_ops.norm_relu_pool_affine, (x, weight, bias, False))
    d_pooled = torch.randn(3, 4, dtype=torch.float64)
    _, mean, var, sums, counts = _ops.norm_relu_pool(x, weight, bias, EPS, True)
    torch.library.opcheck(_ops.norm_relu_pool_backward, (d_pooled, x, weight, bias, mean, var, sums, counts, EPS))
    _, sums, counts = _ops.norm_relu_pool_affine(x, weight, bias, True)
    torch.library.opcheck(_ops.norm_relu_pool_affine_backward, (d_pooled, x, weight, bias, sums, counts))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_compute_the_definition_on_a_cpu(memory_format: torch.memory_format) -> None:
    inputs = make_inputs(memory_format)
    expected = torch.autograd.grad(step(*inputs), inputs)
    with force(True):
        ours = torch.autograd.grad(step(*inputs), inputs)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert ours[0].is_contiguous(memory_format=memory_format)


def captured_ops(uses: bool) -> tuple[set[str], set[str]]:
    """The ops of this library in the forward and the backward graph of a compiled step."""
    recorder = AotEagerAndRecordGraphs()
    torch._dynamo.reset()
    with force(uses):
        torch.compile(step, backend=recorder, fullgraph=True)(*make_inputs()).backward()
    targets = [{str(node.target) for node in graph.graph.nodes} for graph in (*recorder.fw_graphs, *recorder.bw_graphs)]
    forward, backward = ({name for name in names if name.startswith("abn_fast")} for names in targets)
    return forward, backward


def test_forward_and_backward_ops_are_in_the_graphs_of_a_gpu() -> None:
    forward, backward = captured_ops(True)
    assert forward == {"abn_fast.norm_relu_pool.default", "abn_fast.norm_relu_pool_affine.default"}
    assert backward == {"abn_fast.norm_relu_pool_backward.default", "abn_fast.norm_relu_pool_affine_backward.default"}


def test_tracers_see_through_the_definition_on_a_cpu() -> None:
    assert captured_ops(False) == (set(), set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_the_results_are_those_of_the_definition(dtype: torch.dtype) -> None:
    x, weight, bias = make_inputs(dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        expected = kernels.norm_relu_pool(x, weight, bias, EPS)[0], kernels.norm_relu_pool_affine(x, weight, bias)
        with force(True):
            ours = kernels.norm_relu_pool(x, weight, bias, EPS)[0], kernels.norm_relu_pool_affine(x, weight, bias)
    assert [y.dtype for y in ours] == [y.dtype for y in expected] == [dtype, dtype]
    torch.testing.assert_close(ours, expected)


def test_what_is_saved_beside_the_inputs_is_two_small_tensors() -> None:
    saved: list[Tensor] = []

    def pack(y: Tensor) -> Tensor:
        saved.append(y)
        return y

    x, weight, bias = make_inputs(dtype=torch.float16)
    with force(True), torch.autograd.graph.saved_tensors_hooks(pack, lambda y: y):
        kernels.norm_relu_pool_affine(x, weight, bias)
    others = [y for y in saved if y.data_ptr() not in {each.data_ptr() for each in (x, weight, bias)}]
    assert [(y.dtype, y.shape) for y in others] == [(torch.float32, (3, 4)), (torch.uint8, (3, 4))]


@pytest.mark.parametrize("size", [255, 256, 2**15 - 1, 2**15])
def test_every_pixel_can_be_active(size: int) -> None:
    *_, counts = _ops.norm_relu_pool_affine(torch.ones(1, 1, 1, size), torch.ones(1), torch.ones(1), True)
    assert counts.tolist() == [[size]]


def test_a_second_derivative_is_refused() -> None:
    inputs = make_inputs()
    with force(True):
        d_x, *_ = torch.autograd.grad(step(*inputs), inputs, create_graph=True)
    with pytest.raises(AbnFastError, match="no second derivative"):
        d_x.sum().backward()


X, V = torch.zeros(2, 4, 3, 5), torch.zeros(4)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: kernels.norm_relu_pool(X[0], V, V, EPS), r"\(4, 3, 5\); expected \[N, C, H, W\]"),
    "no pixels": (lambda: kernels.norm_relu_pool_affine(X[..., :0], V, V), r"\(2, 4, 3, 0\).*at least 1"),
    "one value": (lambda: kernels.norm_relu_pool(X[:1, :, :1, :1], V, V, EPS), r"\(1, 4, 1, 1\).*at least 2 values"),
    "empty batch": (lambda: kernels.norm_relu_pool(X[:0], V, V, EPS), r"\(0, 4, 3, 5\).*at least 2 values"),
    "weight": (lambda: kernels.norm_relu_pool(X, V[:3], V, EPS), r"weight has shape \(3,\); expected \(4,\)"),
    "bias": (lambda: kernels.norm_relu_pool(X, V, V[:, None], EPS), r"bias has shape \(4, 1\); expected \(4,\)"),
    "scale": (lambda: kernels.norm_relu_pool_affine(X, V[:1], V), r"scale has shape \(1,\); expected \(4,\)"),
    "shift": (lambda: kernels.norm_relu_pool_affine(X, V, V[:1]), r"shift has shape \(1,\); expected \(4,\)"),
    "integers": (lambda: kernels.norm_relu_pool(X.int(), V, V, EPS), r"x of shape \(2, 4, 3, 5\) is torch.int32"),
    "device": (lambda: kernels.norm_relu_pool_affine(X, V, V.to("meta")), "shift of shape .* is on meta"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@given(
    batch=st.integers(0, 300),
    channels=st.integers(1, 3000),
    pixels=st.integers(1, 5000),
    itemsize=st.sampled_from([2, 4, 8]),
    channels_last=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_every_plan_covers_every_element_once(
    batch: int, channels: int, pixels: int, itemsize: int, channels_last: bool
) -> None:
    plan = make_plan(batch, channels, pixels, itemsize, channels_last, 4096)
    assert 0 <= plan.blocks * plan.block_c - channels < plan.block_c
    assert 0 <= plan.chunks * plan.block_p - pixels < plan.block_p
    assert plan.block_p % plan.width == 0
    assert plan.block_c * plan.block_p <= 4096


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("channels", "pixels"), [(2048, 196), (1024, 49), (256, 256), (128, 64)])
def test_a_gpu_is_filled(channels: int, pixels: int, channels_last: bool) -> None:
    for itemsize in (2, 4):
        plan = make_plan(32, channels, pixels, itemsize, channels_last, 1024 if channels_last else 4096)
        assert 32 * plan.blocks >= 128
