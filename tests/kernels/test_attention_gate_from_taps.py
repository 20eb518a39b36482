"""The torch op of attention_gate_from_taps on a CPU; its kernel runs in the interpreter, in a process of its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from abn_fast import AbnFastError, kernels
from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import force
from abn_fast.kernels._tuning import configuration
from abn_fast.kernels.attention_gate_from_taps import _ops
from abn_fast.kernels.attention_gate_from_taps._plan import make_plan
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]


def test_the_kernel_agrees_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_attention_gate_from_taps.py")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_op_keeps_the_contract_of_torch_and_computes_the_definition(memory_format: torch.memory_format) -> None:
    features = torch.randn(2, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=memory_format)
    taps, (scale, shift) = torch.randn(2, 18, 3, 5, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64)
    torch.library.opcheck(_ops.attention_gate_from_taps, (features, taps, scale, shift, True, torch.float32))
    expected = reference.attention_gate_from_taps(features, taps, scale, shift, "product", torch.float32)
    with force(True):
        ours = kernels.attention_gate_from_taps(features, taps, scale, shift, "product", torch.float32)
    torch.testing.assert_close(ours, expected)
    assert ours[0].is_contiguous(memory_format=memory_format)


def test_where_a_gradient_is_asked_for_there_is_one() -> None:
    features, taps = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(2, 18, 3, 5, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (features, taps, *torch.randn(2, 1, dtype=torch.float64).unbind())]
    found = []
    for uses in (True, False):
        with force(uses):
            gated, attention = kernels.attention_gate_from_taps(*inputs)  # type: ignore[arg-type]  # four tensors
        found.append(torch.autograd.grad(gated.square().sum() + attention.square().sum(), inputs))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


G, T, V = torch.zeros(2, 4, 3, 5), torch.zeros(2, 18, 3, 5), torch.zeros(1)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: kernels.attention_gate_from_taps(G[0], T, V, V), r"features has shape \(4, 3, 5\)"),
    "rank of the taps": (
        lambda: kernels.attention_gate_from_taps(G, T[0], V, V),
        r"\(18, 3, 5\); expected \(2, 9 P, 3, 5",
    ),
    "batch": (lambda: kernels.attention_gate_from_taps(G, T[:1], V, V), r"\(1, 18, 3, 5\); expected \(2, 9 P, 3, 5\)"),
    "width": (
        lambda: kernels.attention_gate_from_taps(G, T[..., :4], V, V),
        r"\(2, 18, 3, 4\); expected \(2, 9 P, 3, 5",
    ),
    "eight taps": (lambda: kernels.attention_gate_from_taps(G, T[:, :8], V, V), r"\(2, 8, 3, 5\).*nine for each part"),
    "scale": (lambda: kernels.attention_gate_from_taps(G, T, V[0], V), r"scale has shape \(\); expected \(1,\)"),
    "integers": (lambda: kernels.attention_gate_from_taps(G, T.int(), V, V), "taps of shape .* is torch.int32"),
    "device": (lambda: kernels.attention_gate_from_taps(G, T, V, V.to("meta")), "shift of shape .* is on meta"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_is_told_in_one_line(wrong: str, uses: bool) -> None:
    call, message = WRONG[wrong]
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(("channels", "size"), [(1024, 14), (128, 16), (512, 7)])
@pytest.mark.parametrize("batch", [1, 8, 32, 256])
def test_a_gpu_is_filled_by_few_readings_of_the_taps(
    batch: int, channels: int, size: int, memory_format: torch.memory_format
) -> None:
    x = torch.empty(batch, channels, size, size, device="meta").contiguous(memory_format=memory_format)
    chosen = configuration("attention_gate_from_taps.gate", x)
    for itemsize in (2, 4):
        channels_last = memory_format == torch.channels_last
        plan = make_plan(batch, channels, size * size, itemsize, channels_last, chosen)
        assert plan.programs(batch) >= (128 if batch * channels * size * size >= 128 * 4096 else 2 * batch)
        assert plan.splits == 1 or batch * plan.tiles * (plan.splits - 1) < 128
