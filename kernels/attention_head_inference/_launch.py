"""From tensors to two launches: the product, then the gate with what is left to do for GAP."""

from torch import Tensor

from abn_fast.kernels._runtime import launch
from abn_fast.kernels.attention_gate_from_taps._launch import prepare
from abn_fast.kernels.attention_gate_from_taps._triton import gate_kernel
from abn_fast.kernels.attention_head_inference._triton import gate_and_pool_kernel
from abn_fast.kernels.class_evidence_inference._launch import product


def attention_head_inference(
    features: Tensor,
    stage_output: Tensor,
    weight: Tensor,
    bias: Tensor,
    map_weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    pooled, taps, pooling = product(stage_output, weight, bias, map_weight)
    gating = prepare(features, taps, scale, shift, residual, pooled.dtype)
    if pooling is None:
        kernel, programs = gate_kernel, gating.programs
        arguments, constants = gating.arguments, gating.constants
    else:
        kernel, programs = gate_and_pool_kernel, gating.programs + pooling.programs
        arguments = (*gating.arguments, *pooling.arguments, gating.programs)
        constants = gating.constants | pooling.constants
    launch(kernel, programs, features.device, *arguments, **constants, num_warps=gating.warps)
    return pooled, gating.gated, gating.attention
