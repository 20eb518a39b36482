"""The torch ops: schema, what they return, backward. On a CPU they compute the reference.

Without map_weight the score is the map of the SE-ResNet variant.
"""

from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._checks import second_derivative_error
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format
from abn_fast.kernels.class_evidence._gradients import class_evidence_gradients


@torch.library.custom_op("abn_fast::class_evidence", mutates_args=())
def class_evidence(
    z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None, eps: float, score_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """GAP(a), the score, and [5, K]: mean, variance, 1 / deviation, scale and shift."""
    if runs_triton(z):
        from abn_fast.kernels.class_evidence import _launch

        vectors = _launch.statistics(z, weight, bias, eps)
        return *_launch.apply(z, vectors[3], vectors[4], map_weight, score_dtype), vectors
    if map_weight is None:
        evidence, (mean, var) = reference.class_evidence_log_map(z, weight, bias, eps)
    else:
        evidence, (mean, var) = reference.class_evidence(z, weight, bias, map_weight, eps)
    inverse = torch.rsqrt(var + eps)
    scale = weight.to(var.dtype) * inverse
    vectors = torch.stack([mean, var, inverse, scale, bias.to(var.dtype) - scale * mean])
    return *_outputs(evidence, score_dtype), vectors


@class_evidence.register_fake
def _(
    z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None, eps: float, score_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    return *_empty(z, score_dtype), z.new_empty((5, z.shape[1]), dtype=reference.accumulator(z.dtype))


@torch.library.custom_op("abn_fast::class_evidence_affine", mutates_args=())
def class_evidence_affine(
    z: Tensor, scale: Tensor, shift: Tensor, map_weight: Tensor | None, score_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    if runs_triton(z):
        from abn_fast.kernels.class_evidence import _launch

        return _launch.apply(z, scale, shift, map_weight, score_dtype)
    if map_weight is None:
        evidence = reference.class_evidence_log_map_affine(z, scale, shift)
    else:
        evidence = reference.class_evidence_affine(z, scale, shift, map_weight)
    return _outputs(evidence, score_dtype)


@class_evidence_affine.register_fake
def _(
    z: Tensor, scale: Tensor, shift: Tensor, map_weight: Tensor | None, score_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return _empty(z, score_dtype)


@torch.library.custom_op("abn_fast::class_evidence_backward", mutates_args=())
def class_evidence_backward(
    d_pooled: Tensor,
    d_score: Tensor,
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    map_weight: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of z, weight (scale), bias (shift) and map_weight (nothing if none); in brackets without mean."""
    arguments = (d_pooled, d_score, z, scale, shift, map_weight, mean, inverse)
    if runs_triton(z):
        from abn_fast.kernels.class_evidence import _launch

        return _launch.backward(*arguments)
    d_z, d_scale, d_shift, d_map_weight = class_evidence_gradients(*arguments)
    return in_format(d_z, z), d_scale, d_shift, d_map_weight.contiguous()


@class_evidence_backward.register_fake
def _(
    d_pooled: Tensor,
    d_score: Tensor,
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    map_weight: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_map_weight = z.new_empty(0) if map_weight is None else map_weight.new_empty(map_weight.shape)
    return empty_like(z), scale.new_empty(scale.shape), shift.new_empty(shift.shape), d_map_weight


def _outputs(evidence: reference.ClassEvidence, score_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return evidence.pooled.contiguous(), evidence.score.to(score_dtype).contiguous()


def _empty(z: Tensor, score_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    batch, classes, height, width = z.shape
    return z.new_empty((batch, classes)), z.new_empty((batch, 1, height, width), dtype=score_dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    z, weight, bias, map_weight, *_ = inputs
    ctx.save_for_backward(z, map_weight, output[2])
    ctx.dtypes = weight.dtype, bias.dtype
    ctx.set_materialize_grads(False)


def _save_affine(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, d_pooled: Tensor | None, d_score: Tensor | None, _: Any) -> tuple[Any, ...]:
    z, map_weight, vectors = ctx.saved_tensors
    mean, _, inverse, scale, shift = vectors.unbind()
    d_z, d_weight, d_bias, d_map_weight = _backward(d_pooled, d_score, z, scale, shift, map_weight, mean, inverse)
    weight_dtype, bias_dtype = ctx.dtypes
    return d_z, d_weight.to(weight_dtype), d_bias.to(bias_dtype), d_map_weight, None, None


def _affine_gradients(ctx: Any, d_pooled: Tensor | None, d_score: Tensor | None) -> tuple[Any, ...]:
    return *_backward(d_pooled, d_score, *ctx.saved_tensors, None, None), None


def _backward(d_pooled: Tensor | None, d_score: Tensor | None, z: Tensor, *rest: Tensor | None) -> tuple[Any, ...]:
    d_pooled = z.new_zeros(z.shape[:2]) if d_pooled is None else d_pooled
    d_score = z.new_zeros((len(z), 1, *z.shape[2:])) if d_score is None else d_score
    *gradients, d_map_weight = class_evidence_backward(d_pooled, d_score, z, *rest)
    return *gradients, None if rest[2] is None else d_map_weight


def _refuse(ctx: Any, *_: Any) -> None:
    raise second_derivative_error("class_evidence")


class_evidence.register_autograd(_gradients, setup_context=_save)
class_evidence_affine.register_autograd(_affine_gradients, setup_context=_save_affine)
class_evidence_backward.register_autograd(_refuse)
