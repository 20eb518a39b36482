"""The torch ops: schema, what they return, backward. On a CPU they compute what the kernels do, in plain torch.

Besides the pooled values, a forward that `saves` returns for each image and channel the sum of x (of x - mean, with
batch statistics) over the active pixels, and their number: with them, the gradients of the vectors need no x.
"""

from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels._checks import second_derivative_error
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format
from abn_fast.kernels.norm_relu_pool import _plain
from abn_fast.kernels.norm_relu_pool._saved import empty_saved
from abn_fast.kernels.reference import accumulator

Forward = tuple[Tensor, Tensor, Tensor]
BatchForward = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor]


@torch.library.custom_op("abn_fast::norm_relu_pool", mutates_args=())
def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float, saves: bool) -> BatchForward:
    if runs_triton(x):
        from abn_fast.kernels.norm_relu_pool import _launch

        return _launch.norm_relu_pool(x, weight, bias, eps, saves)
    return _plain.norm_relu_pool(x, weight, bias, eps, saves)


@norm_relu_pool.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, saves: bool) -> BatchForward:
    mean = x.new_empty(x.shape[1], dtype=accumulator(x.dtype))
    return x.new_empty(x.shape[:2]), mean, torch.empty_like(mean), *empty_saved(x, saves)


@torch.library.custom_op("abn_fast::norm_relu_pool_backward", mutates_args=())
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
) -> Gradients:
    if runs_triton(x):
        from abn_fast.kernels.norm_relu_pool import _launch

        return _launch.norm_relu_pool_backward(d_pooled, x, weight, bias, mean, var, sums, counts, eps)
    d_x, d_weight, d_bias = _plain.norm_relu_pool_backward(d_pooled, x, weight, bias, mean, var, sums, counts, eps)
    return in_format(d_x, x), d_weight, d_bias


@norm_relu_pool_backward.register_fake
def _(
    d_pooled: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    sums: Tensor,
    counts: Tensor,
    eps: float,
) -> Gradients:
    return empty_like(x), weight.new_empty(weight.shape), bias.new_empty(bias.shape)


@torch.library.custom_op("abn_fast::norm_relu_pool_affine", mutates_args=())
def norm_relu_pool_affine(x: Tensor, scale: Tensor, shift: Tensor, saves: bool) -> Forward:
    if runs_triton(x):
        from abn_fast.kernels.norm_relu_pool import _launch

        return _launch.norm_relu_pool_affine(x, scale, shift, saves)
    return _plain.norm_relu_pool_affine(x, scale, shift, saves)


@norm_relu_pool_affine.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, saves: bool) -> Forward:
    return x.new_empty(x.shape[:2]), *empty_saved(x, saves)


@torch.library.custom_op("abn_fast::norm_relu_pool_affine_backward", mutates_args=())
def norm_relu_pool_affine_backward(
    d_pooled: Tensor, x: Tensor, scale: Tensor, shift: Tensor, sums: Tensor, counts: Tensor
) -> Gradients:
    if runs_triton(x):
        from abn_fast.kernels.norm_relu_pool import _launch

        return _launch.norm_relu_pool_affine_backward(d_pooled, x, scale, shift, sums, counts)
    d_x, d_scale, d_shift = _plain.norm_relu_pool_affine_backward(d_pooled, x, scale, shift, sums, counts)
    return in_format(d_x, x), d_scale, d_shift


@norm_relu_pool_affine_backward.register_fake
def _(d_pooled: Tensor, x: Tensor, scale: Tensor, shift: Tensor, sums: Tensor, counts: Tensor) -> Gradients:
    return empty_like(x), scale.new_empty(scale.shape), shift.new_empty(shift.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.eps, _ = inputs
    _, *saved = output
    ctx.save_for_backward(x, weight, bias, *saved)
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)


def _save_affine(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _ = inputs
    _, *saved = output
    ctx.save_for_backward(*tensors, *saved)
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, d_pooled: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if d_pooled is None:
        return (None,) * 5
    return *norm_relu_pool_backward(d_pooled, *ctx.saved_tensors, ctx.eps), None, None


def _affine_gradients(ctx: Any, d_pooled: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if d_pooled is None:
        return (None,) * 4
    return *norm_relu_pool_affine_backward(d_pooled, *ctx.saved_tensors), None


def _refuse(ctx: Any, *_: Any) -> None:
    raise second_derivative_error("norm_relu_pool")


norm_relu_pool.register_autograd(_gradients, setup_context=_save)
norm_relu_pool_affine.register_autograd(_affine_gradients, setup_context=_save_affine)
norm_relu_pool_backward.register_autograd(_refuse)
norm_relu_pool_affine_backward.register_autograd(_refuse)
