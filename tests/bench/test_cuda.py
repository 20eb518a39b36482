"""The benchmark of a GPU, on a CPU with a clock of the tests."""

from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast import kernels
from abn_fast.proofs.cases import Case, Size, cases
from abn_fast.tuning.clock import Times
from bench import _cuda

SIZE = Size(2, 8, 12, 5, 4, 4)
CASES = [Case(each.op, SIZE, each.definition) for each in {case.op: case for case in cases()}.values()]
CPU = torch.device("cpu")


class Benchmark:
    """In the place of pytest-benchmark's."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.rounds = 0

    def pedantic(self, run: Any, rounds: int) -> None:
        run()
        self.rounds = rounds


def clock(*runs: Any) -> list[Times]:
    """The first takes 10 us, the second 20."""
    for run in runs:
        run()
    return [Times(9, 10 * (number + 1), 30) for number in range(len(runs))]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_every_op_is_compared(case: Case, direction: str) -> None:
    if direction not in case.directions:
        return
    benchmark = Benchmark()
    problem = _cuda.problem(case, direction, torch.float32, torch.channels_last, CPU)
    assert _cuda.compare(benchmark, problem, "eager", clock, bandwidth=1e12) == 2
    info = benchmark.extra_info
    assert info["case"] == f"{case.op} {direction}, {SIZE}, float32, channels_last"
    assert (info["path"], info["peer"], info["ratio"]) == ("kernels", "definition, eager", 2)
    assert info["bandwidth_share"] == round(case.floor(direction, torch.float32) / 10e-6 / 1e12, 3)
    assert benchmark.rounds == 1


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_compiled_definition_runs_again_and_again(direction: str) -> None:
    problem = _cuda.problem(CASES[0], direction, torch.float32, torch.contiguous_format, CPU)
    benchmark = Benchmark()
    _cuda.compare(benchmark, problem, "torch.compile", clock, 1e12, backend="aot_eager")
    assert benchmark.extra_info["peer"] == "definition, torch.compile"
    torch._dynamo.reset()


def test_wrong_numbers_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = kernels.attention_gate

    def wrong(*inputs: Any) -> tuple[Tensor, Tensor]:
        gated, attention = gate(*inputs)
        return gated * 1.001, attention

    monkeypatch.setattr(kernels, "attention_gate", wrong)
    problem = _cuda.problem(CASES[0], "forward", torch.float32, torch.contiguous_format, CPU)
    with pytest.raises(AssertionError):
        _cuda.compare(Benchmark(), problem, "eager", lambda *_: pytest.fail("timed"), 1e12)


def test_a_copy_reads_and_writes() -> None:
    assert _cuda.copy_bandwidth(CPU, clock, size=1000) == pytest.approx(2000 / 10e-6)
