from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain._checks import check_maps

Mode = Literal["nearest", "bilinear", "bicubic"]


def upsample(maps: Tensor, size: tuple[int, int], mode: Mode = "bilinear") -> Tensor:
    """Maps at another size, resampled as PIL resizes: pixel centres aligned, averaged where a map shrinks.

    Shapes: maps [N, 1, h, w] or [N, h, w], size (H, W) -> [N, H, W], on the same device. 16-bit maps become
    float32. "nearest" and "bilinear" stay within the range of the map; "bicubic" may overshoot it.

    Raises:
        AbnFastError: wrong shape or dtype, NaN, a size below 1, an unknown mode.
    """
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    check_maps(maps)
    if min(size) < 1:
        raise AbnFastError(f"size {tuple(size)}: expected (height, width) of at least one pixel")
    if maps.element_size() < 4:
        maps = maps.float()
    match mode:
        case "nearest":
            resized = F.interpolate(maps[:, None], size, mode="nearest-exact")
        case "bilinear" | "bicubic":
            resized = F.interpolate(maps[:, None], size, mode=mode, align_corners=False, antialias=True)
        case _:
            raise AbnFastError(f"mode {mode!r}: expected 'nearest', 'bilinear' or 'bicubic'")
    return resized[:, 0]
