import torch
from torch import Tensor

from abn_fast.data import InMemoryImages, Preprocessing


def stripes(count: int = 96, augment: bool = True, size: int = 16) -> InMemoryImages:
    """A task that any network learns in seconds: horizontal, vertical or no stripes, in noise."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    images = 40 * torch.rand(count, size, size, 3, generator=generator)
    stripe = 150.0 * (torch.arange(size) // 2 % 2)
    images[labels == 0] += stripe[:, None, None]
    images[labels == 1] += stripe[None, :, None]
    boxes: Tensor = torch.tensor([[2.0, 2.0, 10.0, 10.0]]).expand(count, 4)
    return InMemoryImages(
        images.clamp(0, 255).to(torch.uint8),
        labels,
        ["horizontal", "vertical", "none"],
        Preprocessing((size, size), (0.3,) * 3, (0.3,) * 3),
        boxes=boxes,
        augment=augment,
    )
