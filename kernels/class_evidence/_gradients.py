"""The gradients of the definition in closed form: on a CPU, where an op cannot record autograd inside itself."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from abn_fast.kernels.reference import accumulator


def class_evidence_gradients(
    d_pooled: Tensor,
    d_score: Tensor,
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    map_weight: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of z, weight (scale), bias (shift) and map_weight; of those in brackets where there is no mean."""
    dtype = accumulator(z.dtype)
    d_p, d_s, value, slope = d_pooled.to(dtype), d_score.to(dtype), z.to(dtype), scale.to(dtype)
    line = value * slope[:, None, None] + shift.to(dtype)[:, None, None]
    a, pixels = F.relu(line), z.shape[2] * z.shape[3]
    if map_weight is None:
        d_a, d_map_weight = d_s / (1 + a), z.new_empty(0)
    else:
        d_a = F.conv_transpose2d(d_s, map_weight.to(dtype), padding=1)
        d_map_weight = conv2d_weight(a, map_weight.shape, d_s, padding=1).to(map_weight.dtype)
    d_line = torch.where(line <= 0, 0, d_a + (d_p / pixels)[:, :, None, None])
    d_shift = d_line.sum((0, 2, 3))
    if mean is None or inverse is None:
        d_scale = (d_line * value).sum((0, 2, 3))
        d_z = d_line * slope[:, None, None]
    else:
        normalised = (value - mean[:, None, None]) * inverse[:, None, None]
        d_scale = (d_line * normalised).sum((0, 2, 3))
        common = d_shift[:, None, None] + normalised * d_scale[:, None, None]
        d_z = (d_line - common / (len(z) * pixels)) * slope[:, None, None]
    return d_z.to(z.dtype), d_scale.to(scale.dtype), d_shift.to(shift.dtype), d_map_weight
