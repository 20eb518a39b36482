from torch import Tensor

from abn_fast.explain.metrics._boxes import inside_boxes


def pointing_game(maps: Tensor, boxes: Tensor) -> Tensor:
    """Whether the maximum of each map lies in its box; the mean over images is the score.

    Ties are resolved against the map: it hits only if all of its maximal pixels lie in the box, so a constant
    map misses every box but the whole image. No tolerance is added around the box.

    Shapes: maps [N, H, W], boxes [N, 4] as x0, y0, x1, y1 in pixels of the map, x1 and y1 excluded -> bool
    [N].

    Raises:
        AbnFastError: wrong shape or dtype, NaN, a box without pixels or outside its map.

    Source: Zhang et al., "Top-down Neural Attention by Excitation Backprop", IJCV 2018.
    """
    inside = inside_boxes(maps, boxes)
    is_maximum = maps == maps.amax((1, 2), keepdim=True)
    return (inside | ~is_maximum).all(2).all(1)
