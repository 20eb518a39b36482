"""Times on a GPU."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

Run = Callable[[], Any]

WARM_UP = 3
FLUSH_BYTES = 1 << 28
"""More than any L2 cache holds."""
AHEAD = 1000
"""Microseconds that the GPU is kept busy for while the host prepares a run: more than launches and autograd take."""


class Times(NamedTuple):
    """Quartiles of a run's times in microseconds."""

    lower: float
    median: float
    upper: float

    def beats(self, other: "Times") -> bool:
        """Whether these are less than the other by more than noise: three of four runs are, and the median by 2 %."""
        return self.upper < other.lower and self.median < 0.98 * other.median


Clock = Callable[..., list[Times]]
"""Of runs; their times, taken turn by turn."""


def quartiles(microseconds: Sequence[float]) -> Times:
    """The quartiles of at least two times."""
    return Times(*statistics.quantiles(microseconds, n=4, method="inclusive"))


class CudaClock:
    """Times what runs put on the GPU, each with a cold L2 cache.

    The host prepares a run while the GPU still clears the cache, so that its own time does not count.
    """

    def __init__(self, device: torch.device, seconds: float = 0.1) -> None:
        """A clock that spends about so many seconds on each run."""
        self._device, self._seconds = device, seconds
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def __call__(self, *runs: Run) -> list[Times]:
        """The times of each run, taken turn by turn."""
        with torch.cuda.device(self._device):
            for run in runs:
                for _ in range(WARM_UP):
                    run()
            flush = self._flush_microseconds()
            flushes = math.ceil(AHEAD / flush)
            first = self._rounds(runs, flushes, 5)
            one = sum(statistics.median(times) for times in first) / len(runs) + flushes * flush
            rounds = min(200, max(11, int(self._seconds * 1e6 / one)))
            return [quartiles(times) for times in self._rounds(runs, flushes, rounds)]

    def _rounds(self, runs: Sequence[Run], flushes: int, rounds: int) -> list[list[float]]:
        """Microseconds of each run in each round."""
        events = [[[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)] for _ in runs]
        for number in range(rounds):
            for run, pairs in zip(runs, events, strict=True):
                start, end = pairs[number]
                for _ in range(flushes):
                    self._flush.zero_()
                start.record()
                run()
                end.record()
        torch.cuda.synchronize()
        return [[start.elapsed_time(end) * 1e3 for start, end in pairs] for pairs in events]

    def _flush_microseconds(self) -> float:
        self._flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self._flush.zero_()
        end.record()
        torch.cuda.synchronize()
        return max(1.0, float(start.elapsed_time(end)) * 1e3)
