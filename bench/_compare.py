import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from abn_fast.benchmark_report import Case, Comparison, Measured
from abn_fast.benchmark_report.case import amount

Run = Callable[[], Any]
Same = Callable[[Any, Any], None]
"""Raises an AssertionError where our result and a peer's differ by more than they may."""


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


def rotated(runs: Mapping[str, Run], rounds: int, idle: float = 0.25, untimed: bool = True) -> dict[str, list[float]]:
    """Seconds of each round of all, turn by turn, each after a pause and, by default, an untimed call.

    The threads of one runtime spin for a while after its work, and would slow the next one down.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(idle)
            if untimed:
                run()
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return times


def compare(
    benchmark: Any,
    case: Case,
    ours: tuple[str, Run],
    peers: Mapping[str, Run],
    same: Same,
    rounds: int = 5,
    idle: float = 0.0,
    target: float | None = None,
) -> list[Comparison]:
    """Assert that every peer's result is ours, then time all of them turn by turn and note ours against each."""
    name, run = ours
    result = run()
    for peer in peers.values():
        same(result, peer())
    times = rotated({name: run, **peers}, rounds, idle, untimed=idle > 0)
    own = Measured.of(name, times[name])
    found = [Comparison(case, "seconds", own, Measured.of(peer, times[peer]), target) for peer in peers]
    note(benchmark, *found)
    benchmark.pedantic(run, rounds=1)
    return found


def note(benchmark: Any, *comparisons: Comparison) -> None:
    """Keep comparisons where `abn-fast bench` reads them, extra_info["comparisons"], and print them.

    A test that has nothing else for pytest-benchmark to time, which keeps what has timed something, calls `kept`.
    """
    benchmark.extra_info.setdefault("comparisons", []).extend(map(asdict, comparisons))
    for each in comparisons:
        line = f"{each.case}: {each.ours.name} {amount(each.ours.median, each.quantity)}"
        if each.peer is not None:
            line += f", {each.peer.name} {amount(each.peer.median, each.quantity)}"
        print(f"\n{line}" + ("" if each.ratio is None else f": ratio {each.ratio:.2f}"), end="")


def kept(benchmark: Any) -> None:
    """Let pytest-benchmark keep the test's extra_info."""
    benchmark.pedantic(lambda: None, rounds=1)


def record(
    benchmark: Any,
    case: Case | str,
    path: str,
    peer_name: str,
    ours: Run,
    peer: Run,
    rounds: int = 15,
    idle: float = 0.0,
) -> float:
    """Note two paths that gave the same, timed turn by turn; returns the peer's median time over ours.

    Args:
        benchmark: pytest-benchmark's fixture.
        case: what both compute, or only its name.
        path: our name.
        peer_name: the peer's.
        ours: ours.
        peer: the peer.
        rounds: of both.
        idle: seconds of pause before each, see `interleaved`.
    """
    case = Case(case) if isinstance(case, str) else case
    own_times, peer_times = interleaved(ours, peer, rounds, idle)
    found = Comparison.of(case, "seconds", {path: own_times, peer_name: peer_times})
    note(benchmark, found)
    benchmark.pedantic(ours, rounds=3)
    assert found.ratio is not None
    return found.ratio
