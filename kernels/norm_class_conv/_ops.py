"""The torch ops: schema, what they return, backward.

With s = norm_weight * r, r = 1 / sqrt(var + eps), W' = W diag(s) rounded to the dtype of the product, and
c = W norm_bias - W' mean, class_conv(bn1(f)) is z = W' f + c. Backward, with dW' = dz f^T and dc = sum dz:

    dW    = dW' diag(s) + dc (norm_bias - mean * s)^T       ds   = colsum(dW' * W) - W^T dc * mean
    dgamma = ds * r        dbeta = W^T dc                   dvar = -1/2 ds * norm_weight * r^3      dmean = -dbeta * s
    df    = diag(s) W^T dz  (+ 2 dvar / n * (f - mean) + dmean / n  where the statistics are those of f)
"""

from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels._checks import second_derivative_error
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format, memory_format
from abn_fast.kernels.batch_statistics import _ops as statistics_ops
from abn_fast.kernels.norm_class_conv import _plain
from abn_fast.kernels.norm_class_conv._plain import Norm, NormGradients
from abn_fast.kernels.norm_class_conv._products import input_gradient, product, weight_gradient
from abn_fast.kernels.reference import accumulator


@torch.library.custom_op("abn_fast::batch_norm_class_conv", mutates_args=())
def batch_norm_class_conv(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    normalised_next: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns z, what it lacks of W' f + c [K], and the mean and variance of the stage output."""
    f = in_format(stage_output, stage_output)
    mean, var = _statistics(f)
    folded, shift = _fold(f, weight, Norm(norm_weight, norm_bias, mean, var, eps), dtype)
    # adding c takes a pass over z on a GPU; rounded to 16 bits, a z that lacks it would be less exact
    if normalised_next and dtype.itemsize >= 4:
        return _product(f, folded, None), shift, mean, var
    return _product(f, folded, shift), torch.zeros_like(shift), mean, var


@batch_norm_class_conv.register_fake
def _(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    normalised_next: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    exact = accumulator(stage_output.dtype)
    mean, var = (stage_output.new_empty(stage_output.shape[1], dtype=exact) for _ in range(2))
    return _empty_z(stage_output, weight, dtype), mean.new_empty(weight.shape[0]), mean, var


@torch.library.custom_op("abn_fast::norm_class_conv", mutates_args=())
def norm_class_conv(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> Tensor:
    f = in_format(stage_output, stage_output)
    return _product(f, *_fold(f, weight, Norm(norm_weight, norm_bias, mean, var, eps), dtype))


@norm_class_conv.register_fake
def _(
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> Tensor:
    return _empty_z(stage_output, weight, dtype)


@torch.library.custom_op("abn_fast::norm_class_conv_backward", mutates_args=())
def norm_class_conv_backward(
    d_z: Tensor,
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    batch: bool,
    normalised_next: bool,
    wants_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the stage output (empty unless wanted), weights, bias, mean and var.

    batch: mean and var are the stage output's own, and part of its gradient.
    normalised_next: a norm took the mean of z away, so that the sum of d_z over a class is 0.
    """
    f, norm = in_format(stage_output, stage_output), Norm(norm_weight, norm_bias, mean, var, eps)
    d_z, x = in_format(d_z, f), f.to(d_z.dtype)
    with torch.autocast(f.device.type, enabled=False):
        d_shift = None if normalised_next else d_z.sum((0, 2, 3), dtype=accumulator(d_z.dtype))
        gradients = _weight_gradients(weight_gradient(d_z, x), d_shift, weight, norm, x)
        d_f = f.new_empty(0)
        if wants_input and batch:
            d_f = _input_gradient(d_z, f, weight.flatten(1), norm, gradients)
        elif wants_input:
            folded, _ = _fold(f, weight, norm, d_z.dtype)
            d_f = in_format(input_gradient(d_z, x, folded).to(f.dtype), f)
    d_weight = gradients.conv_weight.view(weight.shape)
    return d_f, d_weight, gradients.weight, gradients.bias, gradients.mean, gradients.var


@norm_class_conv_backward.register_fake
def _(
    d_z: Tensor,
    stage_output: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    batch: bool,
    normalised_next: bool,
    wants_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_f = empty_like(stage_output) if wants_input else stage_output.new_empty(0)
    exact = accumulator(mean.dtype)
    vectors = (x.new_empty(x.shape, dtype=dtype) for x, dtype in ((mean, exact), (var, exact)))
    d_weights = (weight.new_empty(weight.shape), norm_weight.new_empty(norm_weight.shape))
    return d_f, *d_weights, norm_bias.new_empty(norm_bias.shape), *vectors  # type: ignore[return-value]  # six


def _statistics(f: Tensor) -> tuple[Tensor, Tensor]:
    if runs_triton(f):
        mean, var = statistics_ops.batch_statistics(f)
        return mean, var
    return _plain.statistics(f)


def _fold(f: Tensor, weight: Tensor, norm: Norm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if runs_triton(f):
        from abn_fast.kernels.norm_class_conv import _launch

        return _launch.fold(f, weight.flatten(1), norm, dtype)
    with torch.autocast(f.device.type, enabled=False):
        return _plain.fold(weight.flatten(1), norm, dtype)


def _product(f: Tensor, folded: Tensor, shift: Tensor | None) -> Tensor:
    with torch.autocast(f.device.type, enabled=False):
        z = product(f.to(folded.dtype), folded, None if shift is None else shift.to(folded.dtype))
    return in_format(z, f)


def _weight_gradients(d_folded: Tensor, d_shift: Tensor | None, weight: Tensor, norm: Norm, x: Tensor) -> NormGradients:
    if runs_triton(x):
        from abn_fast.kernels.norm_class_conv import _launch

        return _launch.weight_gradients(d_folded, d_shift, weight.flatten(1), norm, x)
    return _plain.weight_gradients(d_folded, d_shift, weight.flatten(1), norm)


def _input_gradient(d_z: Tensor, f: Tensor, weight: Tensor, norm: Norm, gradients: NormGradients) -> Tensor:
    if runs_triton(f):
        from abn_fast.kernels.norm_class_conv import _launch

        return _launch.input_gradient(d_z, f, weight, norm, gradients.mean, gradients.var)
    d_normed = in_format(input_gradient(d_z, f.to(d_z.dtype), weight.to(d_z.dtype)), f)
    return _plain.add_statistics_gradient(d_normed, f, norm, gradients.mean, gradients.var)


def _empty_z(f: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    batch, _, height, width = f.shape
    return torch.empty(
        (batch, weight.shape[0], height, width), dtype=dtype, device=f.device, memory_format=memory_format(f)
    )


def _save_batch(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, _, ctx.normalised_next = inputs
    _, shift, mean, var = output
    ctx.save_for_backward(*tensors, mean, var)
    ctx.mark_non_differentiable(shift, mean, var)
    ctx.set_materialize_grads(False)


def _batch_gradients(ctx: Any, d_z: Tensor | None, *_: None) -> tuple[Any, ...]:
    if d_z is None:
        return (None,) * 7
    wants = ctx.needs_input_grad[0]
    d_f, *gradients = norm_class_conv_backward(d_z, *ctx.saved_tensors, ctx.eps, True, ctx.normalised_next, wants)
    return d_f if wants else None, *gradients[:3], None, None, None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.eps, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, d_z: Tensor | None) -> tuple[Any, ...]:
    if d_z is None:
        return (None,) * 8
    wants = ctx.needs_input_grad[0]
    d_f, *gradients = norm_class_conv_backward(d_z, *ctx.saved_tensors, ctx.eps, False, False, wants)
    return d_f if wants else None, *gradients, None, None


def _refuse(ctx: Any, *_: Any) -> None:
    raise second_derivative_error("norm_class_conv")


batch_norm_class_conv.register_autograd(_batch_gradients, setup_context=_save_batch)
norm_class_conv.register_autograd(_gradients, setup_context=_save)
norm_class_conv_backward.register_autograd(_refuse)
