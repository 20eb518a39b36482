"""class_conv(bn1(f)) with bn1 folded into the weights, in training too: bn1's output is neither written nor saved."""

from typing import NamedTuple

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._dispatch import uses_triton
from abn_fast.kernels.batch_statistics._checks import check_batch
from abn_fast.kernels.norm_class_conv import _ops
from abn_fast.kernels.norm_class_conv._checks import check_layer, check_statistics
from abn_fast.kernels.reference import Statistics, compute_dtype


class NormedClassConv(NamedTuple):
    """What `batch_norm_class_conv` returns."""

    z: Tensor
    """[N, K, H, W]"""
    lacking: Tensor
    """What z lacks of W' f + c, [K]: 0 unless a norm takes it away next."""
    statistics: Statistics
    """Of the stage output."""


def batch_norm_class_conv(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    *,
    normalised_next: bool = False,
) -> NormedClassConv:
    """class_conv(bn1(f)) on the batch's own statistics: z = W' f + c, by `fold_norm`.

    Shapes: stage_output [N, C', H, W], weight [K, C', 1, 1], norm_weight and norm_bias [C'].

    `normalised_next` says that z goes to a norm on batch statistics and nowhere else. Then constants of a class have no
    effect: z may lack one, which saves a pass over it, and the gradient of norm_bias is 0.

    z has the memory format of the stage output and the dtype of a convolution of it, autocast's for example;
    statistics and sums are float32 (float64 for float64). Backward keeps the stage output and vectors. The products are
    torch's, as deterministic as its flags say; on a GPU the gradient of the stage output is a product of ours, unless
    its tuning row says otherwise: it writes that gradient once, with the part of the statistics.

    Raises:
        AbnFastError: shapes that do not fit, integer tensors, several devices, fewer than 2 values a channel; a second
            derivative.
    """
    check_layer(stage_output, weight, norm_weight, norm_bias)
    check_batch(stage_output)
    inputs = (stage_output, weight, norm_weight, norm_bias)
    if _is_traced_without_ops(stage_output):
        statistics = reference.batch_statistics(stage_output)
        z = reference.norm_class_conv(*inputs, statistics, eps)
        return NormedClassConv(z, torch.zeros_like(z[0, :, 0, 0], dtype=statistics.mean.dtype), statistics)
    z, lacking, mean, var = _ops.batch_norm_class_conv(*inputs, eps, compute_dtype(stage_output), normalised_next)
    return NormedClassConv(z, lacking, Statistics(mean, var))


def norm_class_conv(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    statistics: Statistics,
    eps: float,
) -> Tensor:
    """`batch_norm_class_conv` on statistics that are given, [C'] each, and have gradients: z [N, K, H, W]."""
    check_layer(stage_output, weight, norm_weight, norm_bias)
    check_statistics(stage_output, statistics)
    if _is_traced_without_ops(stage_output):
        return reference.norm_class_conv(stage_output, weight, norm_weight, norm_bias, statistics, eps)
    z: Tensor = _ops.norm_class_conv(
        stage_output, weight, norm_weight, norm_bias, *statistics, eps, compute_dtype(stage_output)
    )
    return z


def _is_traced_without_ops(x: Tensor) -> bool:
    # on a CPU too the op is much faster than what it stands for; an exported program must not need it
    return torch.compiler.is_exporting() and not uses_triton(x)
