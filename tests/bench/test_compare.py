import json
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest

from abn_fast.benchmark_report import Case, Comparison, Measured
from bench import _compare
from bench._compare import compare, record
from tests.bench.test_cuda import Benchmark

CASE = Case("abn_resnet18", batch=1)


def equal(own: Any, theirs: Any) -> None:
    assert own == theirs


class Clock:
    """In the place of the time module: it goes on only while somebody sleeps."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_compare, "time", clock)
    return clock


def sleeping(clock: Clock, *seconds: float) -> Callable[[], int]:
    """Takes these times in turn."""
    left = cycle(seconds)

    def run() -> int:
        clock.sleep(next(left))
        return 42

    return run


def noted(benchmark: Benchmark) -> list[Comparison]:
    return [Comparison.from_json(row) for row in json.loads(json.dumps(benchmark.extra_info["comparisons"]))]


def test_every_peer_is_compared(clock: Clock) -> None:
    benchmark = Benchmark()
    peers = {"slow": sleeping(clock, 3), "slower": sleeping(clock, 5, 6, 7, 8)}  # the first is not timed
    found = compare(benchmark, CASE, ("ours", sleeping(clock, 2)), peers, equal, rounds=3)
    assert noted(benchmark) == found
    ours, slow, slower = (Measured(*each) for each in (("ours", 2, 2, 2), ("slow", 3, 3, 3), ("slower", 6.5, 7, 7.5)))
    assert found == [Comparison(CASE, "seconds", ours, peer) for peer in (slow, slower)]
    assert [each.ratio for each in found] == [1.5, 3.5]


def test_a_pause_is_not_timed_and_the_call_after_it_neither(clock: Clock) -> None:
    first_is_slow = sleeping(clock, 9, 9, 1)  # the check, then an untimed and a timed call
    [found] = compare(Benchmark(), CASE, ("ours", first_is_slow), {"peer": sleeping(clock, 2)}, equal, 1, idle=4)
    assert found.ratio == 2


def test_a_wrong_result_is_not_timed(clock: Clock) -> None:
    benchmark, calls = Benchmark(), []
    peers = {"right": sleeping(clock, 0), "wrong": lambda: calls.append(1)}
    with pytest.raises(AssertionError):
        compare(benchmark, CASE, ("ours", sleeping(clock, 0)), peers, equal)
    assert calls == [1]
    assert not benchmark.extra_info


def test_several_records_of_a_test_are_all_kept(clock: Clock) -> None:
    benchmark = Benchmark()
    for name in ("one", "two"):
        assert record(benchmark, CASE, "ours", name, sleeping(clock, 1), sleeping(clock, 3), rounds=2) == 3
    assert [each.peer.name for each in noted(benchmark) if each.peer] == ["one", "two"]


def test_a_name_alone_is_a_case(clock: Clock) -> None:
    benchmark = Benchmark()
    record(benchmark, "something", "ours", "peer", sleeping(clock, 1), sleeping(clock, 1), rounds=1)
    assert [each.case for each in noted(benchmark)] == [Case("something")]
