import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Run = Callable[[], Any]


def interleaved(ours: Run, peer: Run, rounds: int, idle: float = 0.0) -> tuple[list[float], list[float]]:
    """Seconds of each round of both, turn by turn after one untimed round, so that both see the same machine.

    Where the two use different pools of threads, `idle` seconds let those of the one before go to sleep.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for run in (ours, peer):
        run()
    gc.collect()
    for _ in range(rounds):
        for run, seconds in zip((ours, peer), times, strict=True):
            time.sleep(idle)
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return times


def rotated(runs: Mapping[str, Run], rounds: int, idle: float = 0.25) -> dict[str, list[float]]:
    """Seconds of each round of all, turn by turn, each after a pause and an untimed call.

    The threads of one runtime spin for a while after its work, and would slow the next one down.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(idle)
            run()
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return times


def record(
    benchmark: Any, case: str, path: str, peer_name: str, ours: Run, peer: Run, rounds: int = 15, idle: float = 0.0
) -> float:
    """Compare two paths; extra_info gets case, path, peer and ratio, the peer's median time over ours."""
    own_times, peer_times = interleaved(ours, peer, rounds, idle)
    ratio = statistics.median(peer_times) / statistics.median(own_times)
    benchmark.extra_info.update(case=case, path=path, peer=peer_name, ratio=round(ratio, 3))
    benchmark.pedantic(ours, rounds=3)
    print(f"\n{case}: {path} is {ratio:.2f} times as fast as {peer_name}")
    return ratio
