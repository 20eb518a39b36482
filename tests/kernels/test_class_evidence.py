"""The torch ops of class_evidence on a CPU; their kernels run in the interpreter, in a process of their own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch._subclasses.fake_tensor import FakeTensorMode

from abn_fast import AbnFastError, kernels
from abn_fast.kernels._dispatch import force
from abn_fast.kernels.class_evidence import _ops
from tests.kernels._interpreter import run_in_interpreter

EPS = 1e-5
FORMATS = [torch.contiguous_format, torch.channels_last]


def make_inputs(
    memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    torch.manual_seed(0)
    vector = torch.float64 if dtype == torch.float64 else torch.float32
    z = torch.randn(2, 4, 3, 5).to(dtype).contiguous(memory_format=memory_format)
    vectors = (torch.rand(4, dtype=vector) + 0.5, torch.randn(4, dtype=vector), torch.randn(1, 4, 3, 3, dtype=vector))
    return [x.requires_grad_() for x in (z, *vectors)]


def step(z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor) -> Tensor:
    found = [
        kernels.class_evidence(z, weight, bias, map_weight, EPS)[0],
        kernels.class_evidence_affine(z, weight, bias, map_weight),
        kernels.class_evidence_log_map(z, weight, bias, EPS)[0],
        kernels.class_evidence_log_map_affine(z, weight, bias),
    ]
    return torch.stack([each.pooled.square().sum() + each.score.square().sum() for each in found]).sum()


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_class_evidence.py")


@pytest.mark.slow
def test_the_kernels_agree_with_the_definition_in_the_interpreter_at_more_sizes() -> None:
    run_in_interpreter("interpreted_class_evidence.py", "-m", "slow")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("taps", [True, False], ids=["map_conv", "log map"])
def test_the_ops_keep_the_contract_of_torch(taps: bool, memory_format: torch.memory_format) -> None:
    z, weight, bias, map_weight = make_inputs(memory_format)
    last = map_weight if taps else None
    torch.library.opcheck(_ops.class_evidence, (z, weight, bias, last, EPS, torch.float32))
    torch.library.opcheck(_ops.class_evidence_affine, (z, weight, bias, last, torch.float32))
    saved = [None if x is None else x.detach() for x in (z, weight, bias, last)]
    d_outputs = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 1, 3, 5, dtype=torch.float64)
    vectors = torch.rand(2, 4, dtype=torch.float64).unbind()
    torch.library.opcheck(_ops.class_evidence_backward, (*d_outputs, *saved, *vectors))
    torch.library.opcheck(_ops.class_evidence_backward, (*d_outputs, *saved, None, None))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_compute_the_definition_on_a_cpu(memory_format: torch.memory_format) -> None:
    inputs = make_inputs(memory_format)
    expected = torch.autograd.grad(step(*inputs), inputs)
    with force(True):
        ours = torch.autograd.grad(step(*inputs), inputs)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
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
    assert forward == {"abn_fast.class_evidence.default", "abn_fast.class_evidence_affine.default"}
    assert backward == {"abn_fast.class_evidence_backward.default"}


def test_tracers_see_through_the_definition_on_a_cpu() -> None:
    assert captured_ops(False) == (set(), set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_the_results_are_those_of_the_definition(dtype: torch.dtype) -> None:
    z, scale, shift, map_weight = (x.detach() for x in make_inputs(dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = []
        for uses in (False, True):
            with force(uses):
                evidence = kernels.class_evidence_affine(z, scale, shift, map_weight)
                log_map = kernels.class_evidence_log_map_affine(z, scale, shift)
            found.append((*evidence, *log_map))
    expected, ours = found
    assert [x.dtype for x in expected] == [dtype, torch.bfloat16, dtype, dtype]
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_under_autocast_of_a_gpu_the_dtypes_are_those_of_the_definition(dtype: torch.dtype) -> None:
    def dtypes() -> list[torch.dtype]:
        z, *vectors = (torch.empty(x.shape, dtype=x.dtype, device="cuda") for x in make_inputs(dtype=dtype))
        found = [
            *kernels.class_evidence(z, *vectors, EPS),  # type: ignore[arg-type, call-arg]  # three vectors
            kernels.class_evidence_affine(z, *vectors),
            *kernels.class_evidence_log_map(z, *vectors[:2], EPS),  # type: ignore[arg-type, call-arg]  # two
            kernels.class_evidence_log_map_affine(z, *vectors[:2]),
        ]
        return [y.dtype for each in found for y in each]

    # torch.autocast switches itself off where there is no GPU
    torch.set_autocast_enabled("cuda", True)
    try:
        with FakeTensorMode():
            with force(False):
                expected = dtypes()
            with force(True):
                assert dtypes() == expected
    finally:
        torch.set_autocast_enabled("cuda", False)


def test_of_what_is_as_large_as_z_only_z_is_saved() -> None:
    inputs = make_inputs()
    saved: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        saved.append(x)
        return x

    with force(True), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        evidence, _ = kernels.class_evidence(*inputs, EPS)  # type: ignore[arg-type, call-arg]  # four tensors
    assert evidence.pooled.requires_grad
    assert [x.data_ptr() for x in saved if x.numel() >= inputs[0].numel() and x.ndim == 4 and x.shape[0] == 2] == [
        inputs[0].data_ptr()
    ]


def test_a_second_derivative_is_refused() -> None:
    inputs = make_inputs()
    with force(True):
        d_z, *_ = torch.autograd.grad(step(*inputs), inputs, create_graph=True)
    with pytest.raises(AbnFastError, match="no second derivative"):
        d_z.sum().backward()


Z, V, M = torch.zeros(2, 4, 3, 5), torch.zeros(4), torch.zeros(1, 4, 3, 3)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: kernels.class_evidence_affine(Z[0], V, V, M), r"z has shape \(4, 3, 5\); expected \[N, C, H, W\]"),
    "no pixels": (lambda: kernels.class_evidence_log_map(Z[..., :0], V, V, EPS), r"\(2, 4, 3, 0\).*at least 1"),
    "weight": (lambda: kernels.class_evidence(Z, V[:3], V, M, EPS), r"weight has shape \(3,\); expected \(4,\)"),
    "shift": (lambda: kernels.class_evidence_affine(Z, V, V[None], M), r"shift has shape \(1, 4\); expected \(4,\)"),
    "map_weight": (
        lambda: kernels.class_evidence(Z, V, V, M[:, :3], EPS),
        r"map_weight has shape \(1, 3, 3, 3\); expected \(1, 4, 3, 3\) for z of shape \(2, 4, 3, 5\)",
    ),
    "one value": (lambda: kernels.class_evidence(Z[:1, :, :1, :1], V, V, M, EPS), r"\(1, 4, 1, 1\).*more than 1 value"),
    "no image": (lambda: kernels.class_evidence_log_map(Z[:0], V, V, EPS), r"\(0, 4, 3, 5\).*more than 1 value"),
    "integers": (lambda: kernels.class_evidence_log_map_affine(Z.int(), V, V), r"z of shape .* is torch.int32"),
    "device": (lambda: kernels.class_evidence(Z, V, V, M.to("meta"), EPS), r"map_weight of shape .* is on meta"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
