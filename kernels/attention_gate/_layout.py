import torch
from torch import Tensor


def memory_format(features: Tensor) -> torch.memory_format:
    """The format that the kernels compute in: the features' own, contiguous where it is neither of the two."""
    last = not features.is_contiguous() and features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def empty_gated(features: Tensor, maps: Tensor) -> Tensor:
    """Room for the features times each map, [N * T, C, H, W]."""
    batch, channels, height, width = features.shape
    return torch.empty(
        (batch * maps.shape[1], channels, height, width),
        dtype=features.dtype,
        device=features.device,
        memory_format=memory_format(features),
    )
