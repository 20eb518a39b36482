"""What the ops compute where there is no Triton, with the gradients in closed form."""

import torch
from torch import Tensor

from abn_fast.kernels.batch_statistics._plain import plain_statistics
from abn_fast.kernels.norm_relu_pool._saved import count_dtype, empty_saved
from abn_fast.kernels.reference import accumulator


def norm_relu_pool(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, saves: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    mean, var = plain_statistics(x)
    centred = x.to(mean.dtype) - mean[:, None, None]
    pooled, sums, counts = _pool(x, centred, weight * torch.rsqrt(var + eps), bias, saves)
    return pooled, mean, var, sums, counts


def norm_relu_pool_affine(x: Tensor, scale: Tensor, shift: Tensor, saves: bool) -> tuple[Tensor, Tensor, Tensor]:
    return _pool(x, x.to(accumulator(x.dtype)), scale, shift, saves)


def norm_relu_pool_backward(
    d_pooled: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    sums: Tensor,
    counts: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    r = torch.rsqrt(var + eps)
    scale, centred = weight * r, x.to(mean.dtype) - mean[:, None, None]
    d_active, d_scale, d_bias = _gradients(d_pooled, centred, scale, bias, sums, counts)
    n = x.numel() // x.shape[1]
    d_weight = d_scale * r
    slope, level = -scale * r * d_weight / n, -scale * d_bias / n
    d_x = d_active + slope[:, None, None] * centred + level[:, None, None]
    return d_x.to(x.dtype), d_weight.to(weight.dtype), d_bias.to(bias.dtype)


def norm_relu_pool_affine_backward(
    d_pooled: Tensor, x: Tensor, scale: Tensor, shift: Tensor, sums: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    exact = x.to(accumulator(x.dtype))
    d_x, d_scale, d_shift = _gradients(d_pooled, exact, scale, shift, sums, counts)
    return d_x.to(x.dtype), d_scale.to(scale.dtype), d_shift.to(shift.dtype)


def _pool(x: Tensor, values: Tensor, scale: Tensor, shift: Tensor, saves: bool) -> tuple[Tensor, Tensor, Tensor]:
    line = values * scale[:, None, None] + shift[:, None, None]
    pooled = line.relu().mean((2, 3)).to(x.dtype)
    if not saves:
        return pooled, *empty_saved(x, saves)
    active = line > 0
    sums = torch.where(active, values, 0).sum((2, 3))
    return pooled, sums, active.sum((2, 3)).to(count_dtype(x))


def _gradients(
    d_pooled: Tensor, values: Tensor, scale: Tensor, shift: Tensor, sums: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_active = d_pooled.to(values.dtype) / (values.shape[2] * values.shape[3])  # [N, C]
    active = values * scale[:, None, None] + shift[:, None, None] > 0
    d_values = torch.where(active, (d_active * scale)[..., None, None], 0)
    return d_values, (d_active * sums).sum(0), (d_active * counts).sum(0)
