"""The small operands of the products and of the gradients, in closed form and without Triton; algebra in `_ops`."""

from typing import NamedTuple

import torch
from torch import Tensor

from abn_fast.kernels.batch_statistics._plain import plain_statistics
from abn_fast.kernels.reference import accumulator


class Norm(NamedTuple):
    """A batch norm whose statistics are known, [C'] each."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    eps: float


class NormGradients(NamedTuple):
    """Gradients of a norm, [C'] each, and of the weight of the convolution that follows it, [K, C']."""

    conv_weight: Tensor
    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of x [N, C, H, W]."""
    if x.dtype.itemsize < 4 or not x.is_contiguous():
        return plain_statistics(x)
    count = x.numel() // x.shape[1]
    mean = x.sum((0, 2, 3)) / count
    centred, squares = torch.empty_like(x[:1]), torch.zeros_like(mean)
    for image in x.split(1):  # stays in the cache between the difference and the sum
        torch.sub(image, mean[:, None, None], out=centred)
        squares += torch.linalg.vector_norm(centred, dim=(0, 2, 3)).square()
    return mean, squares / count


def fold(weight: Tensor, norm: Norm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """W' = W diag(s) in `dtype`, [K, C'], and c = W norm_bias - W' mean, [K], of the rounded W'."""
    scale, _, exact = _line(norm)
    w = weight.to(exact)
    folded = (w * scale).to(dtype)
    return folded, w @ norm.bias.to(exact) - folded.to(exact) @ norm.mean.to(exact)


def weight_gradients(d_folded: Tensor, d_shift: Tensor | None, weight: Tensor, norm: Norm) -> NormGradients:
    """From the gradients of W', [K, C'], which may be overwritten, and of c, [K]; None where that is 0."""
    scale, r, exact = _line(norm)
    mean, w, d_folded = norm.mean.to(exact), weight.to(exact), d_folded.to(exact)
    d_scale = (d_folded * w).sum(0)
    d_weight, d_bias = d_folded.mul_(scale), torch.zeros_like(scale)
    if d_shift is not None:
        d_shift = d_shift.to(exact)
        d_bias = d_shift @ w
        d_scale -= d_bias * mean
        d_weight.addr_(d_shift, norm.bias.to(exact) - mean * scale)
    d_var = -0.5 * d_scale * scale * r.square()
    gradients = (d_weight, d_scale * r, d_bias, -d_bias * scale, d_var)
    dtypes = (weight.dtype, norm.weight.dtype, norm.bias.dtype, exact, exact)
    return NormGradients(*(d.to(dtype) for d, dtype in zip(gradients, dtypes, strict=True)))


def add_statistics_gradient(d_normed: Tensor, x: Tensor, norm: Norm, d_mean: Tensor, d_var: Tensor) -> Tensor:
    """The gradient of x from that of norm(x), over norm.weight, and from those of the batch's mean and variance.

    d_normed may be overwritten; the result has the dtype of x.
    """
    scale, _, exact = _line(norm)
    count = x.numel() // x.shape[1]
    slope = 2 * d_var / count
    offset = d_mean / count - slope * norm.mean.to(exact)
    scale, slope, offset = (vector[:, None, None] for vector in (scale, slope, offset))
    d_x = d_normed.to(exact)
    for d_image, image in zip(d_x.split(1), x.split(1), strict=True):  # stays in the cache from step to step
        d_image.mul_(scale).addcmul_(image.to(exact), slope).add_(offset)
    return d_x.to(x.dtype)


def _line(norm: Norm) -> tuple[Tensor, Tensor, torch.dtype]:
    exact = accumulator(norm.mean.dtype)
    r = torch.rsqrt(norm.var.to(exact) + norm.eps)
    return norm.weight.to(exact) * r, r, exact
