import torch
from torch import Tensor


def places(maps: Tensor) -> Tensor:
    """Place of each pixel in its map's order, the highest first, int64 [N, H, W].

    Equal pixels, of which a rectified map is full, come in a fixed random order: in the order of their rows they
    would be removed from the top of the image down.
    """
    count = maps[0].numel()
    shuffle = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = shuffle[maps.flatten(1)[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    rank = torch.arange(count, device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, rank).view_as(maps)
