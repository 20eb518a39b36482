"""From tensors to launches of the kernels."""

from torch import Tensor

from abn_fast.kernels._layout import empty_like, in_format, memory_format
from abn_fast.kernels._runtime import launch
from abn_fast.kernels.add_relu_pool import _triton
from abn_fast.kernels.norm_relu_pool._launch import image_constants


def add_relu_pool(x: Tensor, residual: Tensor) -> Tensor:
    x, residual = in_format(x, x), residual.contiguous(memory_format=memory_format(x))
    pooled = x.new_empty(x.shape[:2])
    programs, constants = image_constants("add_relu_pool.pool", x)
    launch(_triton.pool_kernel, programs, x.device, x, residual, pooled, **constants)
    return pooled


def add_relu_pool_backward(d_pooled: Tensor, x: Tensor, residual: Tensor) -> Tensor:
    x, residual = in_format(x, x), residual.contiguous(memory_format=memory_format(x))
    d_sum = empty_like(x)
    programs, constants = image_constants("add_relu_pool.gradient", x)
    launch(_triton.gradient_kernel, programs, x.device, d_pooled.contiguous(), x, residual, d_sum, **constants)
    return d_sum
