"""From tensors to a launch of the kernel."""

import torch
from torch import Tensor

from abn_fast.kernels._layout import empty_like, memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import configuration
from abn_fast.kernels.attention_gate_from_taps import _triton
from abn_fast.kernels.attention_gate_from_taps._plan import block_of_map, make_plan


def attention_gate_from_taps(
    features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, residual: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    layout = memory_format(features)
    features = features.contiguous(memory_format=layout)
    batch, channels, height, width = features.shape
    gated = empty_like(features)
    attention = features.new_empty((batch, 1, height, width), dtype=dtype)
    plan = make_plan(
        batch,
        channels,
        height * width,
        features.element_size(),
        layout == torch.channels_last,
        configuration("attention_gate_from_taps.gate", features),
    )
    launch(
        _triton.gate_kernel,
        plan.programs(batch),
        features.device,
        features,
        taps.contiguous(),
        scale,
        shift,
        gated,
        attention,
        taps.shape[1] // 9,
        plan.splits,
        plan.chunks,
        HEIGHT=height,
        WIDTH=width,
        A=plan.a,
        B=plan.b,
        STRIDE_A=plan.stride_a,
        STRIDE_B=plan.stride_b,
        BLOCK_A=plan.block_a,
        BLOCK_B=plan.block_b,
        BLOCK_MAP=block_of_map(plan, height * width),
        TILES=plan.tiles,
        RESIDUAL=residual,
        ACC=accumulator(features, taps),
        num_warps=plan.warps,
    )
    return gated, attention
