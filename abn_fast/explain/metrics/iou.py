from typing import NamedTuple

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain.metrics._boxes import inside_boxes
from abn_fast.explain.overlay import rescale

THRESHOLDS = 101
"""How many thresholds `best_iou` tries: 0, 0.01, ..., 1."""


class BestIoU(NamedTuple):
    """Overlap at the threshold that suits a set of maps best."""

    iou: Tensor
    """Of each map, [N] in [0, 1]."""
    threshold: float
    """The one at which the mean is highest, for all maps together."""


def iou(maps: Tensor, boxes: Tensor, threshold: float = 0.5) -> Tensor:
    """Overlap of each map's mask with its box: |mask and box| / |mask or box|.

    The mask holds the pixels at or above the threshold after the map was stretched to its own range (`rescale`).
    A constant map has an empty mask and scores 0, at threshold 0 the whole image.

    Shapes: maps [N, H, W], boxes [N, 4] as x0, y0, x1, y1 in pixels of the map, x1 and y1 excluded -> [N] in [0, 1].

    Raises:
        AbnFastError: a threshold outside [0, 1], wrong shape or dtype, NaN, a box without pixels or outside its map.

    Source: Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, which compares
    thresholded maps; here with the box itself.
    """
    return iou_at(maps, boxes, torch.tensor([threshold]))[:, 0]


def best_iou(maps: Tensor, boxes: Tensor) -> BestIoU:
    """`iou` at the one threshold, of 0, 0.01, ..., 1, at which the mean over the maps is highest.

    The threshold belongs to the set of maps, not to an image: a method whose maps need a threshold each is not
    flattered. It is chosen with the boxes, so that the score is an upper bound of what `iou` can reach.

    Shapes and errors as in `iou`.

    Source: Choe et al., CVPR 2020 (MaxBoxAcc and PxAP choose the threshold so).
    """
    return best_of(iou_at(maps, boxes, thresholds()))


def thresholds() -> Tensor:
    """Those of `best_iou`."""
    return torch.linspace(0, 1, THRESHOLDS)


def best_of(table: Tensor) -> BestIoU:
    """The best column of a table [N, thresholds] of `iou_at(..., thresholds())`."""
    if len(table) == 0:
        return BestIoU(table[:, 0], 0.0)
    index = int(table.double().mean(0).argmax())
    return BestIoU(table[:, index], round(float(thresholds()[index]), 2))


def iou_at(maps: Tensor, boxes: Tensor, levels: Tensor) -> Tensor:
    """Overlap at each of several thresholds, in ascending order: [N, T]."""
    if len(levels) and not 0 <= float(levels.min()) <= float(levels.max()) <= 1:
        raise AbnFastError(f"threshold {levels.tolist()}: expected numbers from 0 to 1")
    inside = inside_boxes(maps, boxes).flatten(1)
    levels = levels.to(maps.device, torch.promote_types(maps.dtype, torch.float32))
    passed = torch.bucketize(rescale(maps.to(levels.dtype)).flatten(1), levels, right=True)  # thresholds at or below
    in_mask = _at_or_above(passed, torch.ones_like(inside), len(levels))
    in_both = _at_or_above(passed, inside, len(levels))
    in_either = in_mask + inside.sum(1, keepdim=True) - in_both
    return in_both / in_either


def _at_or_above(passed: Tensor, counted: Tensor, count: int) -> Tensor:
    """How many of the counted pixels pass each of the thresholds, [N, T]."""
    totals = torch.zeros(len(passed), count + 1, device=passed.device)
    totals.scatter_add_(1, passed, counted.to(totals.dtype))  # whole numbers below 2^24 are exact
    return totals.flip(1).cumsum(1).flip(1)[:, 1:]
