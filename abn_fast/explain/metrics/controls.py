import torch
from torch import Tensor

from abn_fast._checks import checked_whole
from abn_fast.explain.upsample import upsample


def random_maps(count: int, size: tuple[int, int], *, cells: int = 12, seed: int = 0) -> Tensor:
    """Control: maps that know nothing of their image, uniform noise of `cells` x `cells`, bilinearly enlarged.

    They are as coarse as a network's maps; noise of single pixels would harm an image more than any map does.

    Shapes: -> [count, H, W] in [0, 1], float32; map i depends on (seed, size, cells, count) and i.
    """
    checked_whole("cells", cells)
    noise = torch.rand(count, cells, cells, generator=torch.Generator().manual_seed(seed))
    return upsample(noise, size).clamp(0, 1) if count else noise.new_zeros(0, *size)


def centre_gaussian(count: int, size: tuple[int, int]) -> Tensor:
    """Control: the same Gaussian on the centre for every image, sigma a quarter of either side.

    Photographers centre their object, so that on many data sets this map alone points well.

    Shapes: -> [count, H, W] in (0, 1], float32.
    """
    height, width = size
    y, x = ((torch.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    return torch.exp(-(y[:, None] ** 2 + x**2) / (2 * 0.25**2)).expand(count, height, width)
