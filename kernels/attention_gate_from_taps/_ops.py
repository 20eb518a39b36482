"""The torch op: schema and what it returns. On a CPU it computes the reference. It has no backward."""

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format


@torch.library.custom_op("abn_fast::attention_gate_from_taps", mutates_args=())
def attention_gate_from_taps(
    features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, residual: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    if runs_triton(features):
        from abn_fast.kernels.attention_gate_from_taps import _launch

        return _launch.attention_gate_from_taps(features, taps, scale, shift, residual, dtype)
    gate: reference.Gate = "residual" if residual else "product"
    gated, attention = reference.attention_gate_from_taps(features, taps, scale, shift, gate, dtype)
    return in_format(gated, features), attention.contiguous()


@attention_gate_from_taps.register_fake
def _(
    features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, residual: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    batch, _, height, width = features.shape
    return empty_like(features), features.new_empty((batch, 1, height, width), dtype=dtype)
