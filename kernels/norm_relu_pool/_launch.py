"""From tensors to launches of the kernels."""

from typing import Any

import torch
import triton
from torch import Tensor

from abn_fast.kernels._layout import empty_like, in_format, memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import configuration
from abn_fast.kernels.batch_statistics import _launch as statistics
from abn_fast.kernels.norm_relu_pool import _triton
from abn_fast.kernels.norm_relu_pool._plan import make_plan
from abn_fast.kernels.norm_relu_pool._saved import empty_saved

Vector = Tensor | None


def norm_relu_pool(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, saves: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x = in_format(x, x)
    mean, var = statistics.batch_statistics(x)
    pooled, sums, counts = _forward(x, mean, var, weight, bias, eps, saves)
    return pooled, mean, var, sums, counts


def norm_relu_pool_affine(x: Tensor, scale: Tensor, shift: Tensor, saves: bool) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(in_format(x, x), None, None, scale, shift, 0.0, saves)


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
    return _backward(d_pooled, x, mean, var, weight, bias, sums, counts, eps)


def norm_relu_pool_affine_backward(
    d_pooled: Tensor, x: Tensor, scale: Tensor, shift: Tensor, sums: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(d_pooled, x, None, None, scale, shift, sums, counts, 0.0)


def _forward(
    x: Tensor, mean: Vector, var: Vector, weight: Tensor, bias: Tensor, eps: float, saves: bool
) -> tuple[Tensor, Tensor, Tensor]:
    pooled = x.new_empty(x.shape[:2])
    sums, counts = empty_saved(x, saves)
    programs, constants = image_constants("norm_relu_pool.pool", x)
    launch(
        _triton.pool_kernel,
        programs,
        x.device,
        x,
        mean,
        var,
        weight.contiguous(),
        bias.contiguous(),
        pooled,
        sums,
        counts,
        **constants,
        EPS=eps,
        NORM=mean is not None,
        SAVES=saves,
    )
    return pooled, sums, counts


def _backward(
    d_pooled: Tensor,
    x: Tensor,
    mean: Vector,
    var: Vector,
    weight: Tensor,
    bias: Tensor,
    sums: Tensor,
    counts: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    x, d_pooled = in_format(x, x), d_pooled.contiguous()
    weight, bias = weight.contiguous(), bias.contiguous()
    (batch, channels), pixels = x.shape[:2], x.shape[2] * x.shape[3]
    d_weight, d_bias = torch.empty_like(weight), torch.empty_like(bias)
    norm = mean is not None
    slope = torch.empty_like(mean) if mean is not None else None
    level = torch.empty_like(mean) if mean is not None else None
    chosen = configuration("norm_relu_pool.vector_gradient", x)
    launch(
        _triton.vector_gradient_kernel,
        triton.cdiv(channels, chosen["block_channels"]),
        x.device,
        d_pooled,
        sums,
        counts,
        var,
        weight,
        d_weight,
        d_bias,
        slope,
        level,
        batch,
        batch * pixels,
        C=channels,
        P=pixels,
        BLOCK_N=chosen["block_images"],
        BLOCK_C=chosen["block_channels"],
        EPS=eps,
        NORM=norm,
        ACC=accumulator(x),
        num_warps=chosen["num_warps"],
    )
    d_x = empty_like(x)
    programs, constants = image_constants("norm_relu_pool.gradient", x)
    launch(
        _triton.gradient_kernel,
        programs,
        x.device,
        d_pooled,
        x,
        mean,
        var,
        weight,
        bias,
        slope,
        level,
        d_x,
        **constants,
        EPS=eps,
        NORM=norm,
    )
    return d_x, d_weight, d_bias


def image_constants(kernel: str, x: Tensor) -> tuple[int, dict[str, Any]]:
    """Programs, and constants of a kernel whose programs each take a block of channels of an image."""
    batch, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    last = memory_format(x) == torch.channels_last
    chosen = configuration(kernel, x, pixels=pixels)
    plan = make_plan(batch, channels, pixels, x.element_size(), last, chosen["tile"])
    constants = {
        "C": channels,
        "P": pixels,
        "BLOCK_C": plan.block_c,
        "BLOCK_P": plan.block_p,
        "W": plan.width,
        "BLOCKS": plan.blocks,
        "CHUNKS": plan.chunks,
        "LAST": last,
        "ACC": accumulator(x),
        "num_warps": chosen["num_warps"],
    }
    return batch * plan.blocks, constants
