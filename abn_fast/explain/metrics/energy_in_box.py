from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain.metrics._boxes import inside_boxes


def energy_in_box(maps: Tensor, boxes: Tensor) -> Tensor:
    """Share of each map's sum that lies in its box: sum of M over the box / sum of M over the image.

    A constant map scores the box's share of the area, which is chance. A map that is zero everywhere shows
    nothing and scores 0.

    Shapes: non-negative maps [N, H, W], boxes [N, 4] as x0, y0, x1, y1 in pixels of the map, x1 and y1
    excluded -> [N] in [0, 1], float32 (float64 for float64 maps).

    Raises:
        AbnFastError: negative values, wrong shape or dtype, NaN, a box without pixels or outside its map.

    Source: Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
    CVPR Workshops 2020 (energy-based pointing game).
    """
    inside = inside_boxes(maps, boxes)
    if (maps < 0).any():
        raise AbnFastError(f"maps go down to {maps.amin().item():.4g}; energy needs values of at least 0")
    if maps.element_size() < 4:
        maps = maps.float()
    energy_inside = maps.masked_fill(~inside, 0).sum((1, 2))
    energy_outside = maps.masked_fill(inside, 0).sum((1, 2))
    total = energy_inside + energy_outside
    return energy_inside / total.where(total > 0, 1)
