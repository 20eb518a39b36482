import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain._checks import check_maps


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of the pixels of two maps: of their ranks, ties sharing their mean rank.

    1 where both maps order the pixels alike, 0 where one tells nothing of the other (or is constant), -1 for the
    inverse order.

    Shapes: two maps [N, H, W] of any range -> [N] in [-1, 1], float32 (float64 for float64 maps).

    Raises:
        AbnFastError: shapes that differ, wrong dtype, NaN.

    Source: Spearman, "The Proof and Measurement of Association between Two Things", American Journal of Psychology
    1904; between maps: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.
    """
    check_maps(first)
    check_maps(second)
    if first.shape != second.shape:
        raise AbnFastError(f"maps have shapes {list(first.shape)} and {list(second.shape)}, expected the same")
    one, other = _centred_ranks(first), _centred_ranks(second)
    scale = one.norm(dim=1) * other.norm(dim=1)
    correlation: Tensor = (one * other).sum(1) / scale.where(scale > 0, 1)
    return correlation.to(torch.promote_types(first.dtype, torch.float32))


def _centred_ranks(maps: Tensor) -> Tensor:
    """Ranks less their mean, [N, H * W], float64."""
    values = maps.flatten(1).contiguous()
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values, right=False)
    at_most = torch.searchsorted(ordered, values, right=True)
    return (below + at_most).double() / 2 - values.shape[1] / 2
