"""The torch op: schema and what it returns. On a CPU it computes the reference. It has no backward."""

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format
from abn_fast.kernels.attention_gate_from_taps._ops import attention_gate_from_taps
from abn_fast.kernels.class_evidence_inference._ops import class_evidence_taps_inference, fuses


@torch.library.custom_op("abn_fast::attention_head_inference", mutates_args=())
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
    if fuses(stage_output):
        from abn_fast.kernels.attention_head_inference import _launch

        return _launch.attention_head_inference(
            features, stage_output, weight, bias, map_weight, scale, shift, residual
        )
    if runs_triton(stage_output):
        pooled, taps = class_evidence_taps_inference(stage_output, weight, bias, map_weight)
        gated, attention = attention_gate_from_taps(features, taps, scale, shift, residual, pooled.dtype)
        return pooled, gated, attention
    gate: reference.Gate = "residual" if residual else "product"
    pooled, gated, attention = reference.attention_head_inference(
        features, stage_output, weight, bias, map_weight, scale, shift, gate
    )
    return pooled, in_format(gated, features), attention.contiguous()


@attention_head_inference.register_fake
def _(
    features: Tensor,
    stage_output: Tensor,
    weight: Tensor,
    bias: Tensor,
    map_weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, height, width = features.shape
    pooled = stage_output.new_empty((batch, len(weight)))
    return pooled, empty_like(features), stage_output.new_empty((batch, 1, height, width))
