import torch
from torch import Tensor


def memory_format(x: Tensor) -> torch.memory_format:
    """The format that the kernels compute in: that of x [N, C, H, W], contiguous where it is neither of the two."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def in_format(x: Tensor, like: Tensor) -> Tensor:
    """X in the memory format that the kernels give what has the shape of `like`."""
    return x.contiguous(memory_format=memory_format(like))


def empty_like(x: Tensor) -> Tensor:
    """Room for a result of the shape, dtype and memory format of x."""
    return torch.empty_like(x, memory_format=memory_format(x))
