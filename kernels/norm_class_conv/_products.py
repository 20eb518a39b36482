"""The matrix products of a 1x1 convolution and of its gradients, by torch.

On a CPU they are products of matrices, several times as fast as its convolution where images are many. On a GPU float32
is left to the convolution, and so to `torch.backends.cudnn.allow_tf32`, as any other convolution is. 16-bit
values with a shift are not: cuDNN adds it to a rounded result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast.kernels._dispatch import runs_triton
from abn_fast.kernels._layout import empty_like, memory_format


def product(x: Tensor, weight: Tensor, shift: Tensor | None) -> Tensor:
    """Weight [K, C] times every pixel of x [N, C, H, W], plus shift [K]: [N, K, H, W] in the format of x."""
    batch, _, height, width = x.shape
    if _is_convolution(x):
        return F.conv2d(x, weight[:, :, None, None], shift)
    if _is_rows(x):
        rows = _rows(x)
        y = rows @ weight.t() if shift is None else torch.addmm(shift, rows, weight.t())
        return y.reshape(batch, height, width, len(weight)).permute(0, 3, 1, 2)
    weights, pixels = weight.expand(batch, -1, -1), x.flatten(2)
    y = weights.bmm(pixels) if shift is None else torch.baddbmm(shift[:, None], weights, pixels)
    return y.view(batch, len(weight), height, width)


def input_gradient(d_y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of x, [N, C, H, W]; d_y [N, K, H, W]."""
    if _is_convolution(x):
        return _convolution_gradient(d_y, x, weight, (True, False))
    return product(d_y, weight.t(), None)


def weight_gradient(d_y: Tensor, x: Tensor) -> Tensor:
    """The gradient of the weight, [K, C]: the sum over all pixels of d_y x^T."""
    if _is_rows(x) and not _is_convolution(x):
        return _rows(d_y).t() @ _rows(x)
    shape = d_y.shape[1], x.shape[1]
    if runs_triton(x) or x.dtype.itemsize < 4:  # a sum over images in 16 bits would lose digits
        return _convolution_gradient(d_y, x, x.new_empty(shape), (False, True)).flatten(1)
    d_weight = x.new_zeros(shape)
    for d_image, image in zip(d_y.flatten(2), x.flatten(2), strict=True):
        d_weight.addmm_(d_image, image.t())
    return d_weight


def _is_convolution(x: Tensor) -> bool:
    return runs_triton(x) and x.dtype.itemsize >= 4


def _is_rows(x: Tensor) -> bool:
    return memory_format(x) == torch.channels_last


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)  # [N * H * W, C]


def _convolution_gradient(d_y: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Tensor:
    if x.shape[0] == 0:
        return empty_like(x) if wanted[0] else weight.new_zeros(weight.shape)
    gradients = torch.ops.aten.convolution_backward(
        d_y, x, weight[:, :, None, None], None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    gradient: Tensor = gradients[0 if wanted[0] else 1]
    return gradient
