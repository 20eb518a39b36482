from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from abn_fast.tuning import clock
from abn_fast.tuning.clock import CudaClock, Times, quartiles

Work = Callable[[float], Callable[[], None]]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Work]:
    """A GPU that clears a cache in 0.4 ms; what happened on it, and how to give it work of so many milliseconds."""
    now, happened = [0.0], []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.time = now[0]
            happened.append("event")

        def elapsed_time(self, end: "Event") -> float:
            return end.time - self.time

    class Flush:
        def zero_(self) -> None:
            now[0] += 0.4
            happened.append("flush")

    def work(milliseconds: float) -> Callable[[], None]:
        def run() -> None:
            now[0] += milliseconds
            happened.append(f"run {milliseconds:g}")

        return run

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch, "empty", lambda *_, **__: Flush())
    return happened, work


def test_runs_are_timed_turn_by_turn_with_a_cold_cache(gpu: tuple[list[str], Work]) -> None:
    happened, work = gpu
    times = CudaClock(torch.device("cpu"))(work(1), work(3))
    assert times == [(1000, 1000, 1000), (3000, 3000, 3000)]
    turn = [step for run in ("run 1", "run 3") for step in ("flush", "flush", "flush", "event", run, "event")]
    assert happened[: 2 * clock.WARM_UP] == ["run 1"] * clock.WARM_UP + ["run 3"] * clock.WARM_UP
    assert happened[-len(turn) * 11 :] == turn * 11


@pytest.mark.parametrize(("milliseconds", "rounds"), [(0.01, 82), (0.79, 50), (0.001, 83), (1000, 11)])
def test_the_rounds_take_about_the_time_given(milliseconds: float, rounds: int, gpu: tuple[list[str], Work]) -> None:
    happened, work = gpu
    CudaClock(torch.device("cpu"), seconds=0.1)(work(milliseconds))
    assert sum(step.startswith("run") for step in happened) == clock.WARM_UP + 5 + rounds


def test_quartiles_tell_noise_from_gain() -> None:
    assert quartiles([4, 1, 3, 2, 5]) == (2, 3, 4)
    assert Times(1, 2, 3).beats(Times(4, 5, 6))
    assert not Times(1, 2, 4).beats(Times(3, 5, 6))
    assert not Times(98.5, 98.6, 98.7).beats(Times(99, 100, 101))
