"""The torch ops of norm_class_conv on a CPU; their kernels run in the interpreter, in a process of their own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch.autograd import gradcheck

from abn_fast import AbnFastError, kernels
from abn_fast.kernels import Statistics, reference
from abn_fast.kernels._dispatch import force
from abn_fast.kernels.norm_class_conv import _ops
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]
EPS = 1e-5
batch_norm_class_conv: Any = kernels.batch_norm_class_conv
norm_class_conv: Any = kernels.norm_class_conv
N, C, K, H, W = 3, 6, 4, 5, 2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_inputs(
    memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    f = (torch.randn(N, C, H, W).to(dtype) + 1).contiguous(memory_format=memory_format)
    vectors = torch.rand(C).to(dtype) + 0.5, torch.randn(C).to(dtype)
    return [x.requires_grad_() for x in (f, torch.randn(K, C, 1, 1).to(dtype), *vectors)]


def layers(f: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Tensor:
    return F.conv2d(F.batch_norm(f, None, None, norm_weight, norm_bias, training=True, eps=EPS), weight)


def on_the_batch(*inputs: Tensor) -> Tensor:
    z: Tensor = batch_norm_class_conv(*inputs, EPS).z
    return z


def on_given_statistics(*inputs: Tensor) -> Tensor:
    statistics = Statistics(*reference.batch_statistics(inputs[0]))
    z: Tensor = norm_class_conv(*inputs, statistics, EPS)
    return z


def test_the_kernels_agree_with_the_layers_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_norm_class_conv.py")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_ops_keep_the_contract_of_torch(memory_format: torch.memory_format) -> None:
    inputs = make_inputs(memory_format)
    statistics = [x.detach().requires_grad_() for x in reference.batch_statistics(inputs[0])]
    torch.library.opcheck(_ops.batch_norm_class_conv, (*inputs, EPS, torch.float64, True))
    in_float32 = make_inputs(memory_format, torch.float32)
    torch.library.opcheck(_ops.batch_norm_class_conv, (*in_float32, EPS, torch.bfloat16, False))
    torch.library.opcheck(_ops.norm_class_conv, (*inputs, *statistics, EPS, torch.float64))
    saved = [x.detach() for x in (*inputs, *statistics)]
    d_z = torch.randn(N, K, H, W, dtype=torch.float64)
    for batch, normalised_next, wants_input in ((True, True, True), (True, False, False), (False, False, True)):
        arguments = (d_z, *saved, EPS, batch, normalised_next, wants_input)
        torch.library.opcheck(_ops.norm_class_conv_backward, arguments)


@pytest.mark.parametrize("op", [on_the_batch, on_given_statistics])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_values_and_gradients_are_those_of_norm_and_convolution(
    op: Callable[..., Tensor], memory_format: torch.memory_format
) -> None:
    inputs = make_inputs(memory_format)
    d_z = torch.randn(N, K, H, W, dtype=torch.float64)
    ours, expected = op(*inputs), layers(*inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    assert ours.is_contiguous(memory_format=memory_format)
    own_gradients = torch.autograd.grad(ours, inputs, d_z)
    for a, b in zip(own_gradients, torch.autograd.grad(expected, inputs, d_z), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert own_gradients[0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("op", [on_the_batch, on_given_statistics])
def test_gradients_are_the_differences_of_the_outputs(op: Callable[..., Tensor]) -> None:
    assert gradcheck(op, make_inputs())


def test_a_norm_that_follows_takes_away_what_z_lacks() -> None:
    inputs = make_inputs()
    z, lacking, (mean, var) = batch_norm_class_conv(*inputs, EPS, normalised_next=True)
    torch.testing.assert_close(z + lacking[:, None, None], layers(*inputs), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(z, layers(*inputs))
    torch.testing.assert_close((mean, var), tuple(reference.batch_statistics(inputs[0])), rtol=1e-12, atol=1e-12)
    d_y = torch.randn_like(z)
    ours, expected = (
        torch.autograd.grad(F.batch_norm(y, None, None, training=True), inputs, d_y) for y in (z, layers(*inputs))
    )
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert not ours[3].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_values_lack_nothing(dtype: torch.dtype) -> None:
    inputs = [x.detach().to(dtype) for x in make_inputs(dtype=torch.float32)]
    z, lacking, _ = batch_norm_class_conv(*inputs, EPS, normalised_next=True)
    assert z.dtype == dtype
    assert not lacking.any()
    exact = layers(*(x.double() for x in inputs))
    torch.testing.assert_close(z.double(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps * exact.abs().max().item())


def test_a_stage_that_needs_no_gradient_gets_none() -> None:
    inputs = make_inputs()
    expected = torch.autograd.grad(on_the_batch(*inputs).square().sum(), inputs[1:])
    inputs[0] = inputs[0].detach()
    for op in (on_the_batch, on_given_statistics):
        ours = torch.autograd.grad(op(*inputs).square().sum(), inputs[1:])
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_backward_keeps_the_stage_output_and_vectors() -> None:
    inputs = make_inputs()
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        on_the_batch(*inputs)
    known = {x.data_ptr() for x in inputs}
    assert sum(x.nbytes for x in kept if x.data_ptr() not in known) == 2 * C * 8


@pytest.mark.parametrize("op", [on_the_batch, on_given_statistics])
def test_under_autocast_a_convolution_decides_the_dtypes(op: Callable[..., Tensor]) -> None:
    inputs = make_inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        z, expected = op(*inputs), layers(*inputs)
    assert z.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(z, expected, rtol=0.05, atol=0.05)
    d_z = torch.randn_like(z)
    ours, theirs = torch.autograd.grad(z, inputs, d_z), torch.autograd.grad(expected, inputs, d_z)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * b.abs().max().item())


def captured_ops() -> tuple[set[str], set[str]]:
    """The ops of this library in the forward and the backward graph of a compiled step."""
    recorder = AotEagerAndRecordGraphs()
    torch._dynamo.reset()
    torch.compile(lambda *x: on_the_batch(*x).square().sum(), backend=recorder, fullgraph=True)(
        *make_inputs()
    ).backward()
    targets = [{str(node.target) for node in graph.graph.nodes} for graph in (*recorder.fw_graphs, *recorder.bw_graphs)]
    forward, backward = ({name for name in names if name.startswith("abn_fast")} for names in targets)
    return forward, backward


@pytest.mark.parametrize("uses", [True, False], ids=["GPU", "CPU"])
def test_forward_and_backward_ops_are_in_compiled_graphs(uses: bool) -> None:
    with force(uses):
        forward, backward = captured_ops()
    assert forward == {"abn_fast.batch_norm_class_conv.default"}
    assert backward == {"abn_fast.norm_class_conv_backward.default"}


def test_an_exported_program_on_a_cpu_has_none_of_the_ops() -> None:
    class Layers(torch.nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            return on_the_batch(*inputs) + on_given_statistics(*inputs)

    inputs = tuple(x.detach() for x in make_inputs())
    program = torch.export.export(Layers(), inputs)
    assert not any("abn_fast" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), 2 * layers(*inputs))


def test_a_second_derivative_is_refused() -> None:
    inputs = make_inputs()
    d_f, *_ = torch.autograd.grad(on_the_batch(*inputs).square().sum(), inputs, create_graph=True)
    with pytest.raises(AbnFastError, match="norm_class_conv has no second derivative"):
        d_f.sum().backward()


F_, W_, V = torch.zeros(2, 4, 3, 5), torch.zeros(6, 4, 1, 1), torch.zeros(4)
WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "rank": ((F_[0], W_, V, V), r"stage_output has shape \(4, 3, 5\); expected \[N, C, H, W\]"),
    "channels": ((F_, W_[:, :3], V, V), r"weight has shape \(6, 3, 1, 1\); expected \(K, 4, 1, 1\)"),
    "kernel size": ((F_, torch.zeros(6, 4, 3, 3), V, V), r"\(6, 4, 3, 3\); expected \(K, 4, 1, 1\)"),
    "no classes": ((F_, W_[:0], V, V), r"\(0, 4, 1, 1\); expected \(K, 4, 1, 1\)"),
    "rank of the weight": ((F_, W_[:, :, 0, 0], V, V), r"\(6, 4\); expected \(K, 4, 1, 1\)"),
    "norm_weight": ((F_, W_, V[:1], V), r"norm_weight has shape \(1,\); expected \(4,\)"),
    "norm_bias": ((F_, W_, V, V[None]), r"norm_bias has shape \(1, 4\); expected \(4,\)"),
    "integers": ((F_.int(), W_, V, V), r"stage_output of shape \(2, 4, 3, 5\) is torch.int32"),
    "device": ((F_, W_.to("meta"), V, V), r"weight of shape .* is on meta, .* on cpu"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str) -> None:
    inputs, message = WRONG[wrong]
    for call in (
        lambda: batch_norm_class_conv(*inputs, EPS),
        lambda: norm_class_conv(*inputs, Statistics(V, V + 1), EPS),
    ):
        with pytest.raises(AbnFastError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        (Statistics(V[:2], V), r"mean has shape \(2,\); expected \(4,\)"),
        (Statistics(V, V[None]), r"var has shape \(1, 4\); expected \(4,\)"),
        (Statistics(V, V.int()), r"var of shape \(4,\) is torch.int32"),
    ],
)
def test_wrong_statistics_are_told_in_one_line(statistics: Statistics, message: str) -> None:
    with pytest.raises(AbnFastError, match=message):
        norm_class_conv(F_, W_, V, V, statistics, EPS)


def test_one_value_a_channel_has_no_statistics() -> None:
    with pytest.raises(AbnFastError, match=r"\(1, 4, 1, 1\); expected at least 2 values a channel"):
        batch_norm_class_conv(F_[:1, :, :1, :1], W_, V, V, EPS)
