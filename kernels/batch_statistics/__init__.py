from torch import Tensor

from abn_fast.kernels._dispatch import uses_triton
from abn_fast.kernels.batch_statistics import _ops
from abn_fast.kernels.batch_statistics._checks import check_batch
from abn_fast.kernels.batch_statistics._plain import PlainStatistics
from abn_fast.kernels.reference import Statistics


def batch_statistics(x: Tensor) -> Statistics:
    """Mean and biased variance of x [N, C, H, W] over N, H and W; float32, float64 for float64.

    Backward is one pass over x: dx = 2 dvar / n * (x - mean) + dmean / n, n = N * H * W. What is neither contiguous nor
    channels_last is copied once on a GPU.

    Raises:
        AbnFastError: a wrong rank, fewer than 2 values a channel, integers; a second derivative on a GPU.
    """
    check_batch(x)
    return Statistics(*(_ops.batch_statistics(x) if uses_triton(x) else PlainStatistics.apply(x)))
