import difflib
import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain._checks import check_images, check_maps, check_maps_of, check_unit_range

RESCALE = "abn_fast.explain.rescale(maps) stretches them for display"


def rescale(maps: Tensor) -> Tensor:
    """Each map stretched to [0, 1] for display: (M - min M) / (max M - min M); a constant map becomes 0.

    For the eye only: it hides how strong a map is. Metrics take the map itself.

    Shapes: [N, H, W] of any range -> [N, H, W].

    Raises:
        AbnFastError: wrong shape or dtype, NaN.
    """
    check_maps(maps)
    low = maps.amin((1, 2), keepdim=True)
    spread = maps.amax((1, 2), keepdim=True) - low
    return (maps - low) / spread.where(spread > 0, 1)


def colorize(maps: Tensor, colormap: str = "jet") -> Tensor:
    """Colours of maps by a matplotlib colour map, one table look-up for the whole batch on the maps' device.

    Shapes: maps [N, H, W] in [0, 1] -> [N, 3, H, W] in [0, 1], float32.

    Raises:
        AbnFastError: an unknown colour map, values outside [0, 1], wrong shape or dtype, NaN.
    """
    check_maps(maps)
    check_unit_range(maps, "maps", RESCALE)
    table = torch.tensor(_colormap_table(colormap), device=maps.device)  # [entries, 3]
    entry = (maps * len(table)).to(torch.int32).clamp_(0, len(table) - 1)
    return F.embedding(entry, table).permute(0, 3, 1, 2)


def overlay(images: Tensor, maps: Tensor, alpha: float = 0.5, colormap: str = "jet") -> Tensor:
    """Colours of the maps laid over images: (1 - alpha) * image + alpha * colorize(map).

    Shapes: images [N, 3, H, W] in [0, 1], maps [N, H, W] in [0, 1] -> [N, 3, H, W] in [0, 1], dtype of the
    images.

    Raises:
        AbnFastError: maps of another size than the images, values outside [0, 1], wrong shape or dtype, NaN,
            alpha outside [0, 1], an unknown colour map.
    """
    check_images(images)
    if not 0 <= alpha <= 1:
        raise AbnFastError(f"alpha {alpha} must be in [0, 1]: 0 shows the image alone, 1 the map alone")
    check_maps_of(images, maps)
    return torch.lerp(images.clamp(0, 1), colorize(maps, colormap).to(images.dtype), alpha)


@functools.cache
def _colormap_table(name: str) -> np.ndarray:
    from matplotlib import colormaps

    if name not in colormaps:
        close = difflib.get_close_matches(name, colormaps, n=3) or ["viridis", "jet", "magma"]
        raise AbnFastError(f"colour map {name!r} does not exist in matplotlib; try {', '.join(close)}")
    colormap = colormaps[name]
    return colormap(np.arange(colormap.N))[:, :3].astype(np.float32)
