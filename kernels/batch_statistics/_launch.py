"""From tensors to launches of the kernels."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from abn_fast.kernels._layout import empty_like, in_format, memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import configuration
from abn_fast.kernels.batch_statistics import _triton
from abn_fast.kernels.batch_statistics._plan import Plan, make_plan


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] in the accumulator's dtype, from one read of x and a merge of partial results."""
    x = in_format(x, x)
    channels, acc = x.shape[1], accumulator(x)
    dtype = torch.float64 if acc == tl.float64 else torch.float32
    # a split writes mean and squares, which are read once
    plan, warps = _plan("partial", x, partial_bytes=2 * 2 * dtype.itemsize)
    partials = x.new_empty((plan.splits, 2, channels), dtype=dtype)
    batch = (x.numel() // channels, plan.total, plan.steps)
    constants = _constants(plan, x)
    launch(
        _triton.partial_kernel,
        plan.programs,
        x.device,
        x,
        partials,
        *batch,
        **constants,
        BLOCK_C=plan.block_c,
        W=plan.width,
        BLOCKS=plan.blocks,
        num_warps=warps,
    )
    mean = x.new_empty(channels, dtype=dtype)
    var = torch.empty_like(mean)
    merge = configuration("batch_statistics.merge", x)
    launch(
        _triton.merge_kernel,
        triton.cdiv(channels, merge["block_channels"]),
        x.device,
        partials,
        mean,
        var,
        *batch,
        **constants,
        BLOCK=merge["block_channels"],
        SPLITS=triton.next_power_of_2(plan.splits),
        num_warps=merge["num_warps"],
    )
    return mean, var


def batch_statistics_backward(x: Tensor, mean: Tensor, d_mean: Tensor | None, d_var: Tensor | None) -> Tensor:
    """The gradient of x in its memory format, from one read of x."""
    x = in_format(x, x)
    plan, warps = _plan("gradient", x, partial_bytes=0)
    d_x = empty_like(x)
    launch(
        _triton.gradient_kernel,
        plan.programs,
        x.device,
        x,
        mean.contiguous(),
        None if d_mean is None else d_mean.contiguous(),
        None if d_var is None else d_var.contiguous(),
        d_x,
        x.numel() // x.shape[1],
        plan.total,
        plan.steps,
        **_constants(plan, x),
        BLOCK_C=plan.block_c,
        W=plan.width,
        BLOCKS=plan.blocks,
        num_warps=warps,
    )
    return d_x


def _plan(kernel: str, x: Tensor, partial_bytes: int) -> tuple[Plan, int]:
    batch, channels, height, width = x.shape
    chosen = configuration(f"batch_statistics.{kernel}", x)
    plan = make_plan(
        batch,
        channels,
        height * width,
        x.element_size(),
        memory_format(x) == torch.channels_last,
        chosen["tile"],
        chosen["programs"],
        partial_bytes,
    )
    return plan, chosen["num_warps"]


def _constants(plan: Plan, x: Tensor) -> dict[str, Any]:
    return {
        "C": x.shape[1],
        "P": x.shape[2] * x.shape[3],
        "BLOCK_P": plan.block_p,
        "CHUNKS": plan.chunks,
        "LAST": memory_format(x) == torch.channels_last,
        "ACC": accumulator(x),
    }
