"""`class_evidence` on a CPU: map_conv as products of matrices, and a backward that keeps z alone.

map_conv is nine products of a pixel, added up at shifted places: a 1x1 convolution and F.fold, about twice as fast as
the 3x3 convolution to one channel, whose gradient in turn is F.unfold and a 1x1 convolution.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.kernels._layout import memory_format
from abn_fast.kernels.reference import ClassEvidence, Statistics, compute_dtype


def is_suited(z: Tensor) -> bool:
    """Whether `class_evidence` of z is faster here than by its definition: on a CPU, in 32 bits and more."""
    return z.device.type == "cpu" and z.dtype == compute_dtype(z) and z.dtype in (torch.float32, torch.float64)


def class_evidence(
    z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor, eps: float
) -> tuple[ClassEvidence, Statistics]:
    """As `reference.class_evidence`."""
    vectors = (x.to(z.dtype) for x in (weight, bias, map_weight))
    pooled, score, mean, var = _ClassEvidence.apply(z, *vectors, eps)
    return ClassEvidence(pooled, score), Statistics(mean, var)


class _ClassEvidence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # a running average of momentum 1 is the batch's own variance
        _, unbiased = running = z.new_zeros((2, z.shape[1])).unbind()
        a, mean, inverse = torch.ops.aten.native_batch_norm(z, weight, bias, *running, True, 1.0, eps)
        a = a.relu_()
        count = z.numel() // z.shape[1]
        var = unbiased * ((count - 1) / count)
        taps = _taps(map_weight).t().expand(len(z), -1, -1) @ a.flatten(2)  # [N, 9, H * W]
        score = F.fold(taps, z.shape[2:], 3, padding=1).clone()  # out of the memory of all nine
        ctx.save_for_backward(z, weight, bias, map_weight, mean, inverse)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return a.mean((2, 3)), score, mean, var

    @staticmethod
    def backward(ctx: Any, d_pooled: Tensor, d_score: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, bias, map_weight, mean, inverse = ctx.saved_tensors
        batch, _, height, width = z.shape
        scale = weight * inverse
        a = F.batch_norm(z, mean, torch.ones_like(mean), scale, bias, eps=0.0).relu_()
        shifted = F.unfold(d_score, 3, padding=1)  # [N, 9, H * W]
        d_taps = (a.flatten(2) @ shifted.transpose(1, 2)).sum(0)  # [K, 9]
        # GAP's gradient as a tenth tap: d_a is written once
        taps = _taps(map_weight).expand(batch, -1, -1)
        taps = torch.cat([taps, d_pooled[:, :, None] / (height * width)], 2)  # [N, K, 10]
        shifted = torch.cat([shifted, torch.ones_like(shifted[:, :1])], 1)
        if memory_format(z) == torch.channels_last:
            d_a = (shifted.transpose(1, 2) @ taps.transpose(1, 2)).transpose(1, 2)
        else:
            d_a = taps @ shifted
        d_line = torch.ops.aten.threshold_backward(d_a.unflatten(2, (height, width)), a, 0)
        d_z, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            d_line, z, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
        )
        return d_z, d_weight, d_bias, d_taps.flip(1).view(map_weight.shape), None


def _taps(map_weight: Tensor) -> Tensor:
    """[K, 9]: a pixel's class evidence times row t is added where F.fold puts column t."""
    return map_weight[0].flatten(1).flip(1)
