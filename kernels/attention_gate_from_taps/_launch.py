"""From tensors to a launch of the kernel."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from abn_fast.kernels._layout import empty_like, memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import configuration, warps_of
from abn_fast.kernels.attention_gate_from_taps import _triton
from abn_fast.kernels.attention_gate_from_taps._plan import block_of_map, make_plan


class Gating(NamedTuple):
    """What a launch gates: programs, arguments, and constants but the number of warps."""

    gated: Tensor
    attention: Tensor
    programs: int
    arguments: tuple[Tensor | int, ...]
    constants: dict[str, Any]
    warps: int


def attention_gate_from_taps(
    features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, residual: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    gating = prepare(features, taps, scale, shift, residual, dtype)
    launch(
        _triton.gate_kernel,
        gating.programs,
        features.device,
        *gating.arguments,
        **gating.constants,
        num_warps=gating.warps,
    )
    return gating.gated, gating.attention


def prepare(features: Tensor, taps: Tensor, scale: Tensor, shift: Tensor, residual: bool, dtype: torch.dtype) -> Gating:
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
    tensors = (features, taps.contiguous(), scale, shift, gated, attention)
    constants = {
        "HEIGHT": height,
        "WIDTH": width,
        "A": plan.a,
        "B": plan.b,
        "STRIDE_A": plan.stride_a,
        "STRIDE_B": plan.stride_b,
        "BLOCK_A": plan.block_a,
        "BLOCK_B": plan.block_b,
        "BLOCK_MAP": block_of_map(plan, height * width),
        "TILES": plan.tiles,
        "RESIDUAL": residual,
        "ACC": accumulator(features, taps),
    }
    arguments = (*tensors, taps.shape[1] // 9, plan.splits, plan.chunks)
    warps = warps_of(32 * plan.warps, features.device)
    return Gating(gated, attention, plan.programs(batch), arguments, constants, warps)
