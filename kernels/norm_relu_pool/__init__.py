from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.kernels._checks import check_images, check_same_kind, check_vector
from abn_fast.kernels._dispatch import uses_triton, wants_gradient
from abn_fast.kernels.batch_statistics._checks import check_batch
from abn_fast.kernels.norm_relu_pool import _ops
from abn_fast.kernels.reference import Statistics


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Statistics]:
    """GAP(relu(bn(x))) with batch statistics, the tail of pre-activation networks.

        pooled = 1 / (H W) * sum_pixels relu(weight * (x - mean) / sqrt(var + eps) + bias)

    Shapes: x [N, C, H, W], weight and bias [C] -> pooled [N, C] in the dtype of x. The statistics, [C] each in float32
    (float64 for float64), are for running averages: they have no gradient. What is neither contiguous nor
    channels_last is copied once on a GPU.

    Raises:
        AbnFastError: shapes that do not fit, fewer than 2 values a channel, integer tensors, several devices; a second
            derivative on a GPU.
    """
    check_batch(x)
    _check_vectors(x, weight=weight, bias=bias)
    if uses_triton(x):
        pooled, mean, var, *_ = _ops.norm_relu_pool(x, weight, bias, eps, wants_gradient(x, weight, bias))
        return pooled, Statistics(mean, var)
    return reference.norm_relu_pool(x, weight, bias, eps)


def norm_relu_pool_affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`norm_relu_pool` for statistics that are known: GAP(relu(scale * x + shift)), scale and shift [C].

    Dtypes, strides and errors as there.
    """
    check_images("x", x)
    _check_vectors(x, scale=scale, shift=shift)
    if uses_triton(x):
        pooled: Tensor = _ops.norm_relu_pool_affine(x, scale, shift, wants_gradient(x, scale, shift))[0]
        return pooled
    return reference.norm_relu_pool_affine(x, scale, shift)


def _check_vectors(x: Tensor, **vectors: Tensor) -> None:
    for name, vector in vectors.items():
        check_vector(name, vector, x.shape[1], "channel of x")
    check_same_kind({"x": x, **vectors})
