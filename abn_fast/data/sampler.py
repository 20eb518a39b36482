from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from abn_fast._errors import AbnFastError
from abn_fast.data._random import random_bits


class EpochSampler(Sampler[int]):
    """The order of the samples of an epoch: a permutation that depends on (seed, epoch) alone.

    Args:
        length: number of samples in the data set.
        seed: any integer.
        epoch: whose permutation to yield.
        start: samples of this epoch that were consumed already; they are skipped, so that an interrupted epoch
            goes on with exactly the samples it still had to see.
    """

    def __init__(self, length: int, seed: int, epoch: int = 0, start: int = 0) -> None:
        if length < 1:
            raise AbnFastError(f"length {length}: expected at least one sample")
        self.length = length
        self.seed = seed
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch, after its first `start` samples; call it before iterating."""
        if epoch < 0:
            raise AbnFastError(f"epoch {epoch}: expected 0 or more")
        if not 0 <= start <= self.length:
            raise AbnFastError(f"start {start}: expected 0 to {self.length}, the number of samples")
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[int]:
        keys = random_bits("order", self.seed, self.epoch, rows=np.arange(self.length), columns=1)[:, 0]
        yield from np.argsort(keys, kind="stable")[self.start :].tolist()

    def __len__(self) -> int:
        return self.length - self.start
