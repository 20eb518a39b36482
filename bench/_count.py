"""What a run takes beside time: memory, launches, and how cost grows."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from abn_fast.benchmark_report import Measured

Run = Callable[[], Any]
LARGEST = 3
"""How many of the largest points an exponent is fitted to."""


def peak_bytes(run: Run, device: str = "cpu") -> int:
    """Most memory that a run holds at a time beyond what is there before."""
    run()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = run()
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    del kept
    events = [each for each in recorded.profiler.kineto_results.events() if each.name() == "[memory]"]
    held, most = 0, 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def launches(run: Run, device: str = "cpu") -> int:
    """Kernels that a run starts on a GPU; on a CPU the operators that compute something, which views do not."""
    run()
    if device == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as recorded:
            run()
            torch.cuda.synchronize()
        events = [event for event in recorded.events() or () if str(event.device_type).endswith("CUDA")]
        return sum(not event.name.startswith("Mem") for event in events)
    counted = _Operators()
    with counted:
        run()
    return counted.count


def exponent(name: str, costs: Mapping[int, Sequence[float]]) -> Measured:
    """How cost grows: the p of c x^p, by least squares on logarithms of the largest x; quartiles over the rounds.

    Args:
        name: of the way.
        costs: by x, one of each round, the same number everywhere.
    """
    largest = sorted(costs)[-LARGEST:]
    rounds = zip(*(costs[x] for x in largest), strict=True)
    return Measured.of(name, [_slope([math.log(x) for x in largest], [math.log(y) for y in each]) for each in rounds])


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func._schema.returns
        self.count += not any(each.alias_info and not each.alias_info.is_write for each in results)
        return func(*args, **(kwargs or {}))


def _slope(x: list[float], y: list[float]) -> float:
    middle, height = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True))
    return products / sum((a - middle) ** 2 for a in x)
