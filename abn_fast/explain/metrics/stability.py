from collections.abc import Callable, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain.metrics.rank_correlation import rank_correlation

SHIFTS = ((0, 2), (2, 0), (0, -2), (-2, 0))


def agreement(maps: Sequence[Tensor]) -> Tensor:
    """How alike several networks' maps of the same images are: the mean `rank_correlation` over all pairs.

    Networks that differ in their seed alone should look at the same pixels if the map tells of the image.

    Shapes: two or more maps [N, H, W] -> [N] in [-1, 1].

    Raises:
        AbnFastError: fewer than two, shapes that differ, wrong dtype, NaN.
    """
    if len(maps) < 2:
        raise AbnFastError(f"agreement of {len(maps)} map: expected those of two or more networks")
    return torch.stack([rank_correlation(one, other) for one, other in combinations(maps, 2)]).mean(0)


def shift_agreement(
    explain: Callable[[Tensor], Tensor], images: Tensor, *, shifts: Sequence[tuple[int, int]] = SHIFTS
) -> Tensor:
    """How well a map moves with its image: `rank_correlation` with that of the shifted image, moved back; their mean.

    The border that a shift uncovers repeats the image's edge; only pixels that both maps show are compared.

    Args:
        explain: images -> maps [N, H, W].
        images: [N, C, H, W].
        shifts: (down, right) in pixels.

    Returns:
        [N] in [-1, 1].

    Raises:
        AbnFastError: a shift as large as the image, no shift, NaN.
    """
    height, width = images.shape[2:]
    if not shifts or any(abs(down) >= height or abs(right) >= width for down, right in shifts):
        raise AbnFastError(f"shifts {tuple(shifts)}: expected (down, right) smaller than {height} x {width} images")
    maps = explain(images)
    scores = []
    for down, right in shifts:
        moved = explain(_shifted(images, down, right))
        seen = maps[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        back = moved[:, max(down, 0) : height - max(-down, 0), max(right, 0) : width - max(-right, 0)]
        scores.append(rank_correlation(seen, back))
    return torch.stack(scores).mean(0)


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    height, width = images.shape[2:]
    padded = F.pad(images, [abs(right)] * 2 + [abs(down)] * 2, mode="replicate")
    top, left = abs(down) - down, abs(right) - right
    return padded[:, :, top : top + height, left : left + width]
