import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast._checks import checked_whole
from abn_fast.explain.metrics._faithfulness import Classify, check_faithfulness_inputs, probability
from abn_fast.explain.metrics._order import places

STEPS = 8
_KERNEL, _SIGMA = 11, 5.0  # of the published code's blur, pixels


def deletion(classify: Classify, images: Tensor, maps: Tensor, targets: Tensor, *, steps: int = STEPS) -> Tensor:
    """Area under the target's probability while the pixels that a map calls important vanish first; low is good.

    Pixels become 0, which in normalised images is the mean colour. The curve has `steps` + 1 points at equal shares
    of the pixels, joined by straight lines (trapezoids); the published code has 225 at 224 pixels.

    Args:
        classify: images -> probabilities [N, K].
        images: [N, C, H, W] as `classify` takes them.
        maps: [N, H, W], of any range.
        targets: int64 [N], the class whose probability is followed.
        steps: of equal shares.

    Returns:
        [N] in [0, 1].

    Raises:
        AbnFastError: maps of another size than the images, wrong shape or dtype, NaN.

    Source: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.
    """
    check_faithfulness_inputs(images, maps, targets)
    gone = torch.zeros_like(images)
    ends = (probability(classify, images, targets), probability(classify, gone, targets))
    return replacement_area(classify, images, gone, places(maps), targets, ends, steps)


def insertion(classify: Classify, images: Tensor, maps: Tensor, targets: Tensor, *, steps: int = STEPS) -> Tensor:
    """Area under the target's probability while important pixels come first into a blurred image; high is good.

    The blur is a Gaussian of 11 x 11 pixels and sigma 5, as in the published code. Otherwise as `deletion`.

    Source: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.
    """
    check_faithfulness_inputs(images, maps, targets)
    start = blurred(images)
    ends = (probability(classify, start, targets), probability(classify, images, targets))
    return replacement_area(classify, start, images, places(maps), targets, ends, steps)


def replacement_area(
    classify: Classify,
    before: Tensor,
    after: Tensor,
    order: Tensor,
    targets: Tensor,
    ends: tuple[Tensor, Tensor],
    steps: int,
) -> Tensor:
    """Area under the target's probability while pixels pass, in their order, from `before` to `after`.

    Args:
        classify: images -> probabilities.
        before: [N, C, H, W].
        after: [N, C, H, W].
        order: place of each pixel, [N, H, W].
        targets: [N].
        ends: probability of the target in `before` and in `after`, which all maps of an image share.
        steps: of equal shares.
    """
    pixels = order[0].numel()
    curve = [ends[0]]
    for step in range(1, checked_whole("steps", steps)):
        passed = order < round(pixels * step / steps)
        curve.append(probability(classify, torch.where(passed[:, None], after, before), targets))
    curve.append(ends[1])
    heights = torch.stack(curve)
    return (heights[1:] + heights[:-1]).mean(0) / 2


def blurred(images: Tensor) -> Tensor:
    """Images under a Gaussian of 11 x 11 pixels and sigma 5, the borders repeated."""
    offsets = torch.arange(_KERNEL, dtype=images.dtype, device=images.device) - _KERNEL // 2
    weights = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    rows = F.pad(images.flatten(0, 1)[:, None], [_KERNEL // 2] * 4, mode="replicate")  # [N * C, 1, H + 10, W + 10]
    rows = F.conv2d(F.conv2d(rows, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
    return rows.view_as(images)
