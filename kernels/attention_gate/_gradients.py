"""The gradients of the definition in closed form: on a CPU, where an op cannot record autograd inside itself."""

import torch
from torch import Tensor

from abn_fast.kernels.reference import accumulator


def attention_gate_gradients(
    d_gated: Tensor,
    d_attention: Tensor | None,
    features: Tensor,
    score: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of features, score, scale and shift; d_gated [N * T, C, H, W], d_attention [N, T, H, W]."""
    s, a, b = (x.to(accumulator(score.dtype)) for x in (score, scale[:, None, None], shift[:, None, None]))
    m = torch.sigmoid(s * a + b)
    d_features, d_m = gate_features_gradients(d_gated, features, m, residual)
    if d_attention is not None:
        d_m = d_m + d_attention
    d_logit = d_m * m * (1 - m)
    d_scale, d_shift = (d_logit * s).sum((0, 2, 3)), d_logit.sum((0, 2, 3))
    return d_features, (d_logit * a).to(score.dtype), d_scale.to(scale.dtype), d_shift.to(shift.dtype)


def gate_features_gradients(
    d_gated: Tensor, features: Tensor, attention: Tensor, residual: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of features and maps; d_gated [N * T, C, H, W], attention [N, T, H, W]."""
    gates = 1 + attention if residual else attention
    d_y = d_gated.unflatten(0, attention.shape[:2])  # [N, T, C, H, W]
    d_features = (d_y * gates[:, :, None]).sum(1)
    d_attention = (d_y.to(accumulator(d_y.dtype)) * features[:, None]).sum(2)
    return d_features.to(features.dtype), d_attention.to(attention.dtype)
