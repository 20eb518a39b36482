import numpy as np
import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data._random import random_bits


def split_indices(labels: Tensor, validation: float | int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split the samples of a training set into those to train on and those to choose the best epoch on.

    A class of n of the N samples gives V * n / N of the V validation samples, rounded so that the sum is V (largest
    remainders first) and that no class leaves the training set. Which of its samples these are depends on (seed,
    index) alone, so that a larger validation set mostly holds the smaller one. Samples of many labels are drawn
    without regard to them.

    Args:
        labels: int64 [N] of class numbers, or [N, K] of ones and zeros.
        validation: the share of the samples, a float above 0 and below 1, or their number.
        seed: any integer.

    Returns:
        (training, validation): int64 [N - V] and int64 [V], in rising order.

    Raises:
        AbnFastError: the share or the number is out of its range, or the classes are too small.
    """
    count = len(labels)
    total = _total(validation, count)
    strata = labels.numpy() if labels.ndim == 1 else np.zeros(count, np.int64)
    order = random_bits("validation", seed, rows=np.arange(count), columns=1)[:, 0]
    by_class = np.lexsort((order, strata))  # every class's samples together, in random order
    _, sizes = np.unique(strata, return_counts=True)
    place_in_class = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_out = np.zeros(count, np.bool_)
    held_out[by_class] = place_in_class < np.repeat(_quotas(sizes, total), sizes)
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))


def _total(validation: float | int, count: int) -> int:
    if isinstance(validation, bool) or not isinstance(validation, int | float):
        raise AbnFastError(f"validation={validation!r}; expected a share such as 0.1 or a number of images")
    if isinstance(validation, float) and not 0 < validation < 1:
        raise AbnFastError(
            f"validation={validation}; expected a share above 0 and below 1, or a whole number of images"
        )
    total = validation if isinstance(validation, int) else round(validation * count)
    if not 0 < total < count:
        raise AbnFastError(f"validation={validation} is {total} of {count} images; expected 1 to {count - 1}")
    return total


def _quotas(sizes: np.ndarray, total: int) -> np.ndarray:
    """How many samples of every class are held out: `total` in proportion, and at least one left of each."""
    if total > sizes.sum() - len(sizes):
        raise AbnFastError(
            f"validation of {total} of {sizes.sum()} images leaves none to train on of some of the {len(sizes)} classes"
        )
    quotas: np.ndarray = sizes * total // sizes.sum()
    while quotas.sum() < total:
        missing = sizes * total - quotas * sizes.sum()
        quotas[np.where(quotas < sizes - 1, missing, -total * sizes.sum()).argmax()] += 1
    return quotas
