"""The torch op of attention_head_inference on a CPU; its kernels run in the interpreter, in a process of their own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast import AbnFastError, kernels
from abn_fast.kernels import _tuning, reference
from abn_fast.kernels._dispatch import force, force_triton
from abn_fast.kernels.attention_head_inference import _ops
from tests.kernels._interpreter import run_in_interpreter

FORMATS = [torch.contiguous_format, torch.channels_last]


Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def make_inputs(memory_format: torch.memory_format = torch.contiguous_format) -> Inputs:
    shapes = (2, 4, 3, 5), (2, 6, 3, 5), (70, 6, 1, 1), (70,), (1, 70, 3, 3), (1,), (1,)
    features, stage_output, weight, bias, map_weight, scale, shift = (
        torch.randn(shape, dtype=torch.float64) for shape in shapes
    )
    features, stage_output = (x.contiguous(memory_format=memory_format) for x in (features, stage_output))
    return features, stage_output, weight, bias, map_weight, scale, shift


def test_the_kernels_agree_with_the_definition_in_the_interpreter() -> None:
    run_in_interpreter("interpreted_attention_head_inference.py")


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_op_keeps_the_contract_of_torch_and_computes_the_definition(memory_format: torch.memory_format) -> None:
    inputs = make_inputs(memory_format)
    torch.library.opcheck(_ops.attention_head_inference, (*inputs, True))
    with force(True):
        ours = kernels.attention_head_inference(*inputs, gate="product")
    torch.testing.assert_close(ours, reference.attention_head_inference(*inputs, gate="product"))
    assert ours[1].is_contiguous(memory_format=memory_format)


def test_where_a_gradient_is_asked_for_there_is_one() -> None:
    inputs = make_inputs()
    for x in inputs:
        x.requires_grad_()
    found = []
    for uses in (True, False):
        with force(uses):
            outputs = kernels.attention_head_inference(*inputs)
        found.append(torch.autograd.grad([x.square().sum() for x in outputs], inputs))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_tensor_cores_it_is_torchs_product(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs()
    monkeypatch.setattr(kernels, "class_evidence_affine", reference.class_evidence_affine)
    monkeypatch.setattr(_ops, "attention_gate_from_taps", _gate)
    with force_triton(), _tuning.pretend("sm_75"), torch.no_grad():
        ours = kernels.attention_head_inference(*inputs)
    torch.testing.assert_close(ours, reference.attention_head_inference(*inputs))


def _gate(features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, residual: bool, dtype: torch.dtype) -> Any:
    gate: kernels.Gate = "residual" if residual else "product"
    return reference.attention_gate_from_taps(features, taps, scale, shift, gate, dtype)


WRONG: dict[str, tuple[Callable[[Inputs], Any], str]] = {
    "rank": (lambda x: x[0][0], r"features has shape \(4, 3, 5\)"),
    "batch": (lambda x: x[0][:1], r"features have shape \(1, 4, 3, 5\).*stage output of shape \(2, 6, 3, 5\)"),
    "width": (lambda x: x[0][..., :4], r"features have shape \(2, 4, 3, 4\).*stage output of shape \(2, 6, 3, 5\)"),
    "integers": (lambda x: x[0].int(), "features of shape .* is torch.int32"),
    "device": (lambda x: x[0].to("meta"), "on meta"),
}


@pytest.mark.parametrize("uses", [True, False], ids=["op", "definition"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_features_are_told_in_one_line(wrong: str, uses: bool) -> None:
    change, message = WRONG[wrong]
    inputs = make_inputs()
    with force(uses), pytest.raises(AbnFastError, match=message) as error:
        kernels.attention_head_inference(change(inputs), *inputs[1:])
    assert "\n" not in str(error.value)


def test_a_scale_that_is_not_one_number_is_told_in_one_line() -> None:
    inputs = make_inputs()
    with pytest.raises(AbnFastError, match=r"scale has shape \(\); expected \(1,\)"):
        kernels.attention_head_inference(*inputs[:5], inputs[5][0], inputs[6])
