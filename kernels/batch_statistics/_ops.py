"""The torch ops: schema, what they return, backward."""

from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels._checks import second_derivative_error
from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, in_format
from abn_fast.kernels.batch_statistics._plain import plain_gradient, plain_statistics
from abn_fast.kernels.reference import accumulator


@torch.library.custom_op("abn_fast::batch_statistics", mutates_args=())
def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    if runs_triton(x):
        from abn_fast.kernels.batch_statistics import _launch

        return _launch.batch_statistics(x)
    return plain_statistics(x)


@batch_statistics.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    vector = x.new_empty(x.shape[1], dtype=accumulator(x.dtype))
    return vector, torch.empty_like(vector)


@torch.library.custom_op("abn_fast::batch_statistics_backward", mutates_args=())
def batch_statistics_backward(x: Tensor, mean: Tensor, d_mean: Tensor | None, d_var: Tensor | None) -> Tensor:
    if runs_triton(x):
        from abn_fast.kernels.batch_statistics import _launch

        return _launch.batch_statistics_backward(x, mean, d_mean, d_var)
    return in_format(plain_gradient(x, mean, d_mean, d_var), x)


@batch_statistics_backward.register_fake
def _(x: Tensor, mean: Tensor, d_mean: Tensor | None, d_var: Tensor | None) -> Tensor:
    return empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], output[0])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, d_mean: Tensor | None, d_var: Tensor | None) -> Tensor | None:
    if d_mean is None and d_var is None:
        return None
    d_x: Tensor = batch_statistics_backward(*ctx.saved_tensors, d_mean, d_var)
    return d_x


def _refuse(ctx: Any, *_: Any) -> None:
    raise second_derivative_error("batch_statistics")


batch_statistics.register_autograd(_gradient, setup_context=_save)
batch_statistics_backward.register_autograd(_refuse)
