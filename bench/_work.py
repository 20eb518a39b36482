"""What a run on the CPU computes, and how near it comes to what the machine can do."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

_KINDS = {
    "convolution": ("conv", "mm", "linear"),
    "batch norm": ("batch_norm", "batch_norm_class_conv"),
    "optimizer": ("sgd", "foreach", "optimizer"),
    "copies and casts": ("copy_", "to_copy", "clone"),
}


def operations(run: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and products of an eager run."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return int(counter.get_total_flops())


def shares(run: Callable[[], Any]) -> dict[str, float]:
    """Parts of the time that operators of each kind take in a run themselves; they sum to 1."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        run()
    times: dict[str, float] = dict.fromkeys([*_KINDS, "other"], 0.0)
    for event in recorded.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, parts in _KINDS.items() if any(part in name for part in parts)), "other")
        times[kind] += event.self_cpu_time_total
    total = sum(times.values())
    return {kind: round(seconds / total, 3) for kind, seconds in times.items()}
