"""The torch ops of attention_gate on a CPU; their kernels run in the interpreter, in a process of their own."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs

from abn_fast import AbnFastError, kernels
from abn_fast.kernels._dispatch import force, uses_triton
from abn_fast.kernels._tuning import configuration
from abn_fast.kernels._tuning_file import candidates
from abn_fast.kernels.attention_gate import _ops
from abn_fast.kernels.attention_gate._plan import make_plan
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]


def make_inputs(
    maps: int = 3, memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    features = torch.randn(2, 4, 3, 5).to(dtype).contiguous(memory_format=memory_format)
    score = torch.randn(2, maps, 3, 5).to(dtype).contiguous(memory_format=memory_format)
    vector = torch.float64 if dtype == torch.float64 else torch.float32
    vectors = torch.randn(2, maps, dtype=vector).unbind()
    return [x.detach().requires_grad_() for x in (features, score, *vectors)]


def step(features: Tensor, score: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    gated, attention = kernels.attention_gate(features, score, scale, shift)
    given = kernels.gate_features(features, score, "product")
    return gated.square().sum() + attention.square().sum() + given.square().sum()


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_attention_gate.py")


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_keep_the_contract_of_torch(maps: int, memory_format: torch.memory_format) -> None:
    features, score, *_ = inputs = make_inputs(maps, memory_format)
    torch.library.opcheck(_ops.attention_gate, (*inputs, True))
    torch.library.opcheck(_ops.gate_features, (features, score, False))
    d_gated = torch.randn(2 * maps, 4, 3, 5, dtype=torch.float64)
    saved = [x.detach() for x in inputs]
    torch.library.opcheck(_ops.attention_gate_backward, (d_gated, None, *saved, True))
    torch.library.opcheck(_ops.attention_gate_backward, (d_gated, torch.randn_like(score), *saved, False))
    torch.library.opcheck(_ops.gate_features_backward, (d_gated, *saved[:2], True))


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_compute_the_definition_on_a_cpu(maps: int, memory_format: torch.memory_format) -> None:
    inputs = make_inputs(maps, memory_format)
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
    assert forward == {"abn_fast.attention_gate.default", "abn_fast.gate_features.default"}
    assert backward == {"abn_fast.attention_gate_backward.default", "abn_fast.gate_features_backward.default"}


def test_tracers_see_through_the_definition_on_a_cpu() -> None:
    assert not uses_triton(torch.zeros(1))
    assert captured_ops(False) == (set(), set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_the_results_are_those_of_the_definition(dtype: torch.dtype) -> None:
    features, score, scale, shift = make_inputs(dtype=torch.float32)
    score = score.detach().to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        expected = kernels.attention_gate(features, score, scale, shift)
        with force(True):
            ours = kernels.attention_gate(features, score, scale, shift)
    assert [x.dtype for x in ours] == [x.dtype for x in expected] == [torch.float32, dtype]
    torch.testing.assert_close(ours, expected)


def test_a_second_derivative_is_refused() -> None:
    inputs = make_inputs()
    with force(True):
        d_features, *_ = torch.autograd.grad(step(*inputs), inputs, create_graph=True)
    with pytest.raises(AbnFastError, match="no second derivative"):
        d_features.sum().backward()


G, S, V = torch.zeros(2, 4, 3, 5), torch.zeros(2, 3, 3, 5), torch.zeros(3)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank of the features": (lambda: kernels.gate_features(G[0], S), r"\(4, 3, 5\).*\[N, C, H, W\]"),
    "rank of the map": (lambda: kernels.gate_features(G, S[0]), r"\(3, 3, 5\).*\[N, T, H, W\]"),
    "batch": (lambda: kernels.gate_features(G, S[:1]), r"\(1, 3, 3, 5\); expected \(2, T, 3, 5\)"),
    "height": (lambda: kernels.attention_gate(G, S[:, :, :2], V, V), r"\(2, 3, 2, 5\); expected \(2, T, 3, 5\)"),
    "width": (lambda: kernels.attention_gate(G, S[..., :4], V, V), r"\(2, 3, 3, 4\); expected \(2, T, 3, 5\)"),
    "scale": (lambda: kernels.attention_gate(G, S, V[:1], V), r"scale has shape \(1,\).*expected \(3,\)"),
    "rank of the shift": (lambda: kernels.attention_gate(G, S, V, V[:, None]), r"shift \(3, 1\); expected \(3,\)"),
    "no pixels": (lambda: kernels.gate_features(G[..., :0], S[..., :0]), r"\(2, 4, 3, 0\).*at least 1"),
    "integers": (lambda: kernels.gate_features(G, S.int()), r"attention of shape \(2, 3, 3, 5\) is torch.int32"),
    "integer scale": (lambda: kernels.attention_gate(G, S, V.int(), V), "scale of shape .* is torch.int32"),
    "8 bits": (lambda: kernels.gate_features(G.to(torch.float8_e5m2), S), "features of shape .* torch.float8_e5m2"),
    "device": (lambda: kernels.gate_features(G, S.to("meta")), r"attention of shape .* is on meta, .* on cpu"),
    "device of a vector": (lambda: kernels.attention_gate(G, S, V, V.to("meta")), "shift of shape .* is on meta"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_triton_is_not_imported_and_not_needed() -> None:
    code = """
import sys, torch
if len(sys.argv) > 1:
    sys.modules["triton"] = None
from abn_fast import kernels
kernels.gate_features(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
assert sys.modules.get("triton") is None
"""
    for arguments in ([], ["absent"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True)


@given(
    batch=st.integers(0, 300),
    channels=st.integers(1, 3000),
    pixels=st.integers(1, 5000),
    maps=st.sampled_from([1, 2, 40]),
    itemsize=st.sampled_from([2, 4, 8]),
    channels_last=st.booleans(),
    backward=st.booleans(),
    configuration=st.fixed_dictionaries(
        {
            name: st.sampled_from(values)
            for name, values in candidates("attention_gate")["attention_gate.forward"].items()
        }
    ),
)
@settings(max_examples=500, deadline=None)
def test_every_plan_covers_every_element_once(
    batch: int,
    channels: int,
    pixels: int,
    maps: int,
    itemsize: int,
    channels_last: bool,
    backward: bool,
    configuration: dict[str, int],
) -> None:
    plan = make_plan(batch, channels, pixels, maps, itemsize, channels_last, backward, configuration)
    assert plan.a * plan.b == channels * pixels
    assert plan.b % pixels == 0
    assert 0 <= plan.tiles * plan.block_b - plan.b < plan.block_b
    assert 0 <= plan.splits * plan.chunks * plan.block_a - plan.a < plan.chunks * plan.block_a
    assert maps == 1 or plan.chunks == 1
    assert plan.block_a * plan.block_b <= 16384
    if channels * pixels * itemsize % 16 == 0 and not channels_last:
        assert plan.b * itemsize % 16 == 0


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("channels", "pixels"), [(1024, 196), (128, 256), (512, 49)])
@pytest.mark.parametrize("batch", [1, 8, 32, 256])
def test_a_gpu_is_filled(batch: int, channels: int, pixels: int, backward: bool, channels_last: bool) -> None:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.empty(batch, channels, pixels, 1, device="meta").contiguous(memory_format=memory_format)
    chosen = configuration(f"attention_gate.{'backward' if backward else 'forward'}", x, maps=1)
    for itemsize in (2, 4):
        plan = make_plan(batch, channels, pixels, 1, itemsize, channels_last, backward, chosen)
        enough = 128 if batch * channels * pixels >= 128 * 4096 else 2 * batch
        assert plan.programs(batch) >= enough
