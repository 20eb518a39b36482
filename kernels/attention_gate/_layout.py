import torch
from torch import Tensor

from abn_fast.kernels._layout import memory_format


def empty_gated(features: Tensor, maps: Tensor) -> Tensor:
    """Room for the features times each map, [N * T, C, H, W]."""
    batch, channels, height, width = features.shape
    return torch.empty(
        (batch * maps.shape[1], channels, height, width),
        dtype=features.dtype,
        device=features.device,
        memory_format=memory_format(features),
    )
