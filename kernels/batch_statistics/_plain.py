"""Statistics without Triton: several times as fast as var_mean on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.kernels.reference import accumulator


def plain_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel."""
    # batch_norm reads x in one vectorised pass
    mean, unbiased = x.new_zeros((2, x.shape[1]), dtype=accumulator(x.dtype)).unbind()
    F.batch_norm(x, mean, unbiased, training=True, momentum=1.0)
    count = x.numel() // x.shape[1]
    return mean.clone(), unbiased * ((count - 1) / count)


def plain_gradient(x: Tensor, mean: Tensor, d_mean: Tensor | None, d_var: Tensor | None) -> Tensor:
    """The gradient of x."""
    count = x.numel() // x.shape[1]
    slope = torch.zeros_like(mean) if d_var is None else 2 * d_var / count
    offset = -slope * mean if d_mean is None else d_mean / count - slope * mean
    d_x: Tensor = x * slope[:, None, None] + offset[:, None, None]
    return d_x.to(x.dtype)


class PlainStatistics(torch.autograd.Function):
    """`plain_statistics` with `plain_gradient` as its backward."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return plain_statistics(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def backward(ctx: Any, d_mean: Tensor, d_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        return plain_gradient(x, mean, d_mean, d_var)
