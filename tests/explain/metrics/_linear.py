"""A classifier whose probabilities are a linear function of the image, so that every score has a closed form."""

import torch
from torch import Tensor

from abn_fast.explain.metrics._faithfulness import Classify


def linear(weights: Tensor) -> Classify:
    """Images [N, C, H, W] -> [N, 2]: 1 - p and p = sum of weights [H, W] times the first channel."""

    def classify(images: Tensor) -> Tensor:
        p = (images[:, 0].double() * weights.double()).sum((1, 2))
        return torch.stack([1 - p, p], 1)

    return classify


def weights(height: int = 8, width: int = 8) -> Tensor:
    """Positive, all different, sum 1."""
    values = torch.rand(height, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.01
    return values / values.sum()
