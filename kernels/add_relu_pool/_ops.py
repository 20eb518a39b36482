"""The torch ops: schema, what they return, backward. On a CPU they compute the reference."""

from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._checks import second_derivative_error
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format


@torch.library.custom_op("abn_fast::add_relu_pool", mutates_args=())
def add_relu_pool(x: Tensor, residual: Tensor) -> Tensor:
    if runs_triton(x):
        from abn_fast.kernels.add_relu_pool import _launch

        return _launch.add_relu_pool(x, residual)
    return reference.add_relu_pool(x, residual)


@add_relu_pool.register_fake
def _(x: Tensor, residual: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2])


@torch.library.custom_op("abn_fast::add_relu_pool_backward", mutates_args=())
def add_relu_pool_backward(d_pooled: Tensor, x: Tensor, residual: Tensor) -> Tensor:
    if runs_triton(x):
        from abn_fast.kernels.add_relu_pool import _launch

        return _launch.add_relu_pool_backward(d_pooled, x, residual)
    d_active = d_pooled / (x.shape[2] * x.shape[3])
    return in_format(torch.where(x + residual > 0, d_active[..., None, None], 0), x)


@add_relu_pool_backward.register_fake
def _(d_pooled: Tensor, x: Tensor, residual: Tensor) -> Tensor:
    return empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, d_pooled: Tensor) -> tuple[Tensor, Tensor]:
    d_sum = add_relu_pool_backward(d_pooled, *ctx.saved_tensors)
    return d_sum, d_sum


def _refuse(ctx: Any, *_: Any) -> None:
    raise second_derivative_error("add_relu_pool")


add_relu_pool.register_autograd(_gradients, setup_context=_save)
add_relu_pool_backward.register_autograd(_refuse)
