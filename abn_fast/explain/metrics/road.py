from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain.metrics._faithfulness import Classify, check_faithfulness_inputs, probability
from abn_fast.explain.metrics._order import places

SHARES = (0.2, 0.5, 0.8)
NOISE = 0.01
_PIXELS_AT_ONCE = 2**16  # on a CPU: what its cache holds
_TOLERANCE = 1e-3
_MOST_ITERATIONS = 500


def road(
    classify: Classify,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> Tensor:
    """Remove And Debias: what removing the least important pixels leaves, less what removing the most important does.

        mean over the shares of (p without the least important - p without the most important) / 2

    p is the target's probability. A removed share of the pixels is filled by `noisy_linear_imputation`, so that the
    shape of the hole tells the network little. A map that orders pixels at random scores 0; high is good.

    Args:
        classify: images -> probabilities [N, K].
        images: [N, C, H, W] as `classify` takes them.
        maps: [N, H, W], of any range.
        targets: int64 [N].
        shares: of the pixels that are removed, each above 0 and below 1.
        seed: of the imputation's noise.

    Returns:
        [N] in [-1/2, 1/2].

    Raises:
        AbnFastError: a share out of its range, maps of another size than the images, wrong shape or dtype, NaN.

    Source: Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022; combined
    from both orders as in pytorch-grad-cam.
    """
    check_faithfulness_inputs(images, maps, targets)
    if not shares or not all(0 < share < 1 for share in shares):
        raise AbnFastError(f"shares {tuple(shares)}: expected numbers above 0 and below 1")
    order = places(maps)
    pixels = order[0].numel()
    difference = torch.zeros(len(images), device=images.device)
    for share in shares:
        count = max(1, round(share * pixels))
        for removed, sign in ((order >= pixels - count, 1), (order < count, -1)):
            filled = noisy_linear_imputation(images, removed, seed=seed)
            difference += sign * probability(classify, filled, targets).float()
    return difference / (2 * len(shares))


def noisy_linear_imputation(images: Tensor, removed: Tensor, *, noise: float = NOISE, seed: int = 0) -> Tensor:
    """Images whose removed pixels are the weighted mean of their eight neighbours, plus noise.

    Neighbours beside a pixel weigh 1/6 and those at its corners 1/12; beyond the border there is none. The means of
    all removed pixels together are one linear system, solved for the whole batch by conjugate gradients, which stop
    where no pixel differs from its neighbours' mean by more than a thousandth.

    Shapes: images [N, C, H, W], removed bool [N, H, W], not all of an image -> [N, C, H, W].

    Raises:
        AbnFastError: an image of which nothing is left.

    Source: Rong et al., ICML 2022, section 4.
    """
    if removed.flatten(1).all(1).any():
        raise AbnFastError("all pixels of an image are removed: imputation needs some that are left")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    at_once = len(images) if images.is_cuda else max(1, _PIXELS_AT_ONCE // images[0].numel())
    parts = zip(images.contiguous().split(at_once), removed.split(at_once), strict=True)
    filled = torch.cat([_linear_imputation(*part) for part in parts]) if len(images) else images
    return torch.where(removed[:, None], filled + noise * draws, images)


def _linear_imputation(images: Tensor, removed: Tensor) -> Tensor:
    hole = removed[:, None].to(images.dtype)  # [N, 1, H, W]
    weight = _neighbour_sum(torch.ones_like(hole))
    right = hole * _neighbour_sum(images * (1 - hole))
    return _solve(lambda x: hole * (weight * x - _neighbour_sum(x)), right, hole * _coarse_fill(images, 1 - hole))


def _neighbour_sum(x: Tensor) -> Tensor:
    """Of the eight neighbours, weighted: the product of (1/2, 1, 1/2) along both sides, less the pixel itself."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = (padded[..., :-2] + padded[..., 2:]).mul_(0.5).add_(padded[..., 1:-1])
    both = (rows[..., :-2, :] + rows[..., 2:, :]).mul_(0.5).add_(rows[..., 1:-1, :])
    return both.sub_(x).div_(3)


def _solve(apply: Callable[[Tensor], Tensor], right: Tensor, x: Tensor) -> Tensor:
    """Conjugate gradients for every image and channel by itself, from x, which they change."""
    tiny = torch.finfo(x.dtype).tiny
    residual = right - apply(x)
    direction, square = residual.clone(), _dot(residual, residual)
    for _ in range(_MOST_ITERATIONS):
        if float(residual.abs().max()) <= _TOLERANCE:
            break
        image = apply(direction)
        step = square / _dot(direction, image).clamp(min=tiny)
        x.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        previous, square = square, _dot(residual, residual)
        direction.mul_(square / previous.clamp(min=tiny)).add_(residual)
    return x


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((2, 3), keepdim=True)


def _coarse_fill(images: Tensor, known: Tensor) -> Tensor:
    """A first guess: holes take the mean of what is known around them, from a pyramid of halved images."""
    values, weight = images * known, known
    if min(images.shape[2:]) > 1 and not known.all():
        coarse_values, coarse_weight = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (values, weight))
        coarse = coarse_values / coarse_weight.where(coarse_weight > 0, 1)
        coarse = _coarse_fill(coarse, (coarse_weight > 0).to(known.dtype))
        guess = F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
        return torch.where(known > 0, images, guess)
    return images
