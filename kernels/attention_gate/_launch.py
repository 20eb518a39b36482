"""From tensors to launches of the kernels."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from abn_fast.kernels._layout import memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import configuration, warps_of
from abn_fast.kernels.attention_gate import _triton
from abn_fast.kernels.attention_gate._layout import empty_gated
from abn_fast.kernels.attention_gate._plan import Plan, make_plan


def attention_gate(
    features: Tensor, score: Tensor, scale: Tensor, shift: Tensor, residual: bool
) -> tuple[Tensor, Tensor]:
    attention = torch.empty_like(score, memory_format=torch.contiguous_format)
    return _forward(features, score, scale.contiguous(), shift.contiguous(), attention, residual), attention


def gate_features(features: Tensor, attention: Tensor, residual: bool) -> Tensor:
    return _forward(features, attention, None, None, None, residual)


def attention_gate_backward(
    d_gated: Tensor,
    d_attention: Tensor | None,
    features: Tensor,
    score: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_features, d_score, d_vectors = _backward(
        d_gated, d_attention, features, score, scale.contiguous(), shift.contiguous(), residual
    )
    assert d_vectors is not None
    d_scale, d_shift = d_vectors.sum(0).unbind(1)
    return d_features, d_score, d_scale.to(scale.dtype, copy=True), d_shift.to(shift.dtype, copy=True)


def gate_features_backward(
    d_gated: Tensor, features: Tensor, attention: Tensor, residual: bool
) -> tuple[Tensor, Tensor]:
    d_features, d_attention, _ = _backward(d_gated, None, features, attention, None, None, residual)
    return d_features, d_attention


def _forward(
    features: Tensor,
    maps: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    attention: Tensor | None,
    residual: bool,
) -> Tensor:
    features = features.contiguous(memory_format=memory_format(features))
    maps = maps.contiguous()
    gated = empty_gated(features, maps)
    plan = _plan(features, maps, backward=False)
    launch(
        _triton.forward_kernel,
        plan.programs(len(features)),
        features.device,
        features,
        maps,
        scale,
        shift,
        gated,
        attention,
        plan.splits,
        plan.chunks,
        **_constants(plan, maps),
        RESIDUAL=residual,
        SIGMOID=scale is not None,
        ACC=accumulator(features, maps),
    )
    return gated


def _backward(
    d_gated: Tensor,
    d_attention: Tensor | None,
    features: Tensor,
    maps: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    layout = memory_format(features)
    features, maps = features.contiguous(memory_format=layout), maps.contiguous()
    d_gated = d_gated.contiguous(memory_format=layout)
    plan = _plan(features, maps, backward=True)
    batch, count, pixels = len(features), maps.shape[1], maps.shape[2] * maps.shape[3]
    sigmoid, acc = scale is not None, accumulator(features, maps)
    dtype = torch.float64 if acc == tl.float64 else torch.float32

    d_features = torch.empty_like(features, memory_format=layout)
    partials = features.new_empty((batch, plan.splits, count, plan.b), dtype=dtype)
    launch(
        _triton.backward_kernel,
        plan.programs(batch),
        features.device,
        d_gated,
        features,
        maps,
        scale,
        shift,
        d_features,
        partials,
        plan.splits,
        plan.chunks,
        **_constants(plan, maps),
        RESIDUAL=residual,
        SIGMOID=sigmoid,
        ACC=acc,
    )

    chosen = configuration("attention_gate.map_gradient", features, maps=count)
    block = min(triton.next_power_of_2(pixels), chosen["block_pixels"])
    tiles = triton.cdiv(pixels, block)
    d_maps = torch.empty_like(maps, memory_format=torch.contiguous_format)
    d_vectors = features.new_empty((batch * tiles, count, 2), dtype=dtype) if sigmoid else None
    launch(
        _triton.map_gradient_kernel,
        batch * tiles * count,
        features.device,
        partials,
        None if d_attention is None else d_attention.contiguous(),
        maps,
        scale,
        shift,
        d_maps,
        d_vectors,
        plan.splits,
        T=count,
        PIXELS=pixels,
        B=plan.b,
        BLOCK=block,
        TILES=tiles,
        SIGMOID=sigmoid,
        ACC=acc,
        num_warps=chosen["num_warps"],
    )
    return d_features, d_maps, d_vectors


def _plan(features: Tensor, maps: Tensor, backward: bool) -> Plan:
    batch, channels, height, width = features.shape
    count, kernel = maps.shape[1], f"attention_gate.{'backward' if backward else 'forward'}"
    return make_plan(
        batch,
        channels,
        height * width,
        count,
        features.element_size(),
        memory_format(features) == torch.channels_last,
        backward,
        configuration(kernel, features, maps=count),
    )


def _constants(plan: Plan, maps: Tensor) -> dict[str, int | bool]:
    return {
        "T": maps.shape[1],
        "PIXELS": maps.shape[2] * maps.shape[3],
        "A": plan.a,
        "B": plan.b,
        "STRIDE_A": plan.stride_a,
        "STRIDE_B": plan.stride_b,
        "BLOCK_A": plan.block_a,
        "BLOCK_B": plan.block_b,
        "TILES": plan.tiles,
        "num_warps": warps_of(32 * plan.warps, maps.device),
    }
