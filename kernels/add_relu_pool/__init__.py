from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels import reference
from abn_fast.kernels._checks import check_images, check_same_kind
from abn_fast.kernels._dispatch import uses_triton
from abn_fast.kernels.add_relu_pool import _ops


def add_relu_pool(x: Tensor, residual: Tensor) -> Tensor:
    """GAP(relu(x + residual)), the tail of residual networks: [N, C, H, W] twice -> [N, C].

    The result has the dtype of x. Backward reads both and writes one gradient, which is that of x and of the residual.
    What is neither contiguous nor channels_last is copied once on a GPU, and so is a residual in another format than x.

    Raises:
        AbnFastError: shapes or dtypes that differ, integer tensors, several devices; a second derivative on a GPU.
    """
    check_images("x", x)
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise AbnFastError(
            f"residual is {residual.dtype} of shape {tuple(residual.shape)}; expected {x.dtype} of shape "
            f"{tuple(x.shape)}, as x"
        )
    check_same_kind({"x": x, "residual": residual})
    if uses_triton(x):
        pooled: Tensor = _ops.add_relu_pool(x, residual)
        return pooled
    return reference.add_relu_pool(x, residual)
