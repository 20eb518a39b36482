import torch
from torch import Tensor

from abn_fast.kernels.reference import accumulator


def empty_saved(x: Tensor, saves: bool) -> tuple[Tensor, Tensor]:
    """Room for the sums over an image's active pixels and for their number, [N, C] each; none if nothing is saved."""
    shape = x.shape[:2] if saves else (0,)
    return x.new_empty(shape, dtype=accumulator(x.dtype)), x.new_empty(shape, dtype=count_dtype(x))


def count_dtype(x: Tensor) -> torch.dtype:
    """The smallest that counts an image's pixels."""
    pixels = x.shape[2] * x.shape[3]
    if pixels < 2**8:
        return torch.uint8
    return torch.int16 if pixels < 2**15 else torch.int32
