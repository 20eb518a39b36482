"""The torch ops: schema, what they return, backward. On a CPU they compute the reference."""

from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._checks import second_derivative_error
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format
from abn_fast.kernels.attention_gate._gradients import attention_gate_gradients, gate_features_gradients
from abn_fast.kernels.attention_gate._layout import empty_gated


@torch.library.custom_op("abn_fast::attention_gate", mutates_args=())
def attention_gate(
    features: Tensor, score: Tensor, scale: Tensor, shift: Tensor, residual: bool
) -> tuple[Tensor, Tensor]:
    if runs_triton(features):
        from abn_fast.kernels.attention_gate import _launch

        return _launch.attention_gate(features, score, scale, shift, residual)
    gated, attention = reference.attention_gate(features, score, scale, shift, _gate(residual))
    return in_format(gated, features), attention.contiguous()


@attention_gate.register_fake
def _(features: Tensor, score: Tensor, scale: Tensor, shift: Tensor, residual: bool) -> tuple[Tensor, Tensor]:
    return empty_gated(features, score), score.new_empty(score.shape)


@torch.library.custom_op("abn_fast::attention_gate_backward", mutates_args=())
def attention_gate_backward(
    d_gated: Tensor,
    d_attention: Tensor | None,
    features: Tensor,
    score: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if runs_triton(features):
        from abn_fast.kernels.attention_gate import _launch

        return _launch.attention_gate_backward(d_gated, d_attention, features, score, scale, shift, residual)
    d_features, d_score, d_scale, d_shift = attention_gate_gradients(
        d_gated, d_attention, features, score, scale, shift, residual
    )
    return in_format(d_features, features), d_score.contiguous(), d_scale, d_shift


@attention_gate_backward.register_fake
def _(
    d_gated: Tensor,
    d_attention: Tensor | None,
    features: Tensor,
    score: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        empty_like(features),
        score.new_empty(score.shape),
        scale.new_empty(scale.shape),
        shift.new_empty(shift.shape),
    )


@torch.library.custom_op("abn_fast::gate_features", mutates_args=())
def gate_features(features: Tensor, attention: Tensor, residual: bool) -> Tensor:
    if runs_triton(features):
        from abn_fast.kernels.attention_gate import _launch

        return _launch.gate_features(features, attention, residual)
    gated = reference.gate_features(features, attention, _gate(residual))
    return in_format(gated, features)


@gate_features.register_fake
def _(features: Tensor, attention: Tensor, residual: bool) -> Tensor:
    return empty_gated(features, attention)


@torch.library.custom_op("abn_fast::gate_features_backward", mutates_args=())
def gate_features_backward(
    d_gated: Tensor, features: Tensor, attention: Tensor, residual: bool
) -> tuple[Tensor, Tensor]:
    if runs_triton(features):
        from abn_fast.kernels.attention_gate import _launch

        return _launch.gate_features_backward(d_gated, features, attention, residual)
    d_features, d_attention = gate_features_gradients(d_gated, features, attention, residual)
    return in_format(d_features, features), d_attention.contiguous()


@gate_features_backward.register_fake
def _(d_gated: Tensor, features: Tensor, attention: Tensor, residual: bool) -> tuple[Tensor, Tensor]:
    return empty_like(features), attention.new_empty(attention.shape)


def _gate(residual: bool) -> reference.Gate:
    return "residual" if residual else "product"


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.residual = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _attention_gate_gradients(ctx: Any, d_gated: Tensor | None, d_attention: Tensor | None) -> tuple[Any, ...]:
    features, score, *vectors = ctx.saved_tensors
    d_gated = empty_gated(features, score).zero_() if d_gated is None else d_gated
    return *attention_gate_backward(d_gated, d_attention, features, score, *vectors, ctx.residual), None


def _gate_features_gradients(ctx: Any, d_gated: Tensor | None) -> tuple[Any, ...]:
    if d_gated is None:
        return None, None, None
    return *gate_features_backward(d_gated, *ctx.saved_tensors, ctx.residual), None


def _refuse(ctx: Any, *_: Any) -> None:
    raise second_derivative_error("attention_gate")


attention_gate.register_autograd(_attention_gate_gradients, setup_context=_save)
gate_features.register_autograd(_gate_features_gradients, setup_context=_save)
attention_gate_backward.register_autograd(_refuse)
gate_features_backward.register_autograd(_refuse)
