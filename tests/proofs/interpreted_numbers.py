"""What the proof of numbers finds, by TRITON_INTERPRET=1 pytest and the name of this file."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from abn_fast.kernels import _dispatch, _runtime
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels.attention_gate import _ops
from abn_fast.proofs import numbers
from abn_fast.proofs.cases import OPS, Case, Size

assert _dispatch.INTERPRETED, "run with TRITON_INTERPRET=1"

SIZE = Size(2, channels=5, stage_channels=6, classes=4, height=3, width=5)


@pytest.fixture(autouse=True)
def _poisoned() -> None:
    torch.use_deterministic_algorithms(True)


def rows_of_a_gate(dtype: torch.dtype = torch.float32) -> list[numbers.Row]:
    found = numbers.rows_of(Case("attention_gate", SIZE, OPS["attention_gate"]), dtype, torch.contiguous_format)
    assert [row["direction"] for row in found] == ["forward", "backward"]
    return found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_what_is_as_accurate_as_pytorch_is_ok(dtype: torch.dtype) -> None:
    for row in rows_of_a_gate(dtype):
        assert row["ok"], row
        assert 0 < row["error"] <= row["allowed"] < 0.1


@pytest.mark.parametrize(
    "change",
    [lambda x: x * (1 + 3e-6), lambda x: x.half().float(), lambda x: x + torch.nan, lambda x: x.double()],
    ids=["3e-6 more", "16 bits", "NaN", "another dtype"],
)
def test_results_that_are_off_are_not_ok(change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    exact = _ops.attention_gate
    monkeypatch.setattr(_ops, "attention_gate", lambda *x: tuple(map(change, exact(*x))))
    assert not rows_of_a_gate()[0]["ok"]


@pytest.mark.parametrize(("kernel", "direction"), [("forward_kernel", 0), ("map_gradient_kernel", 1)])
def test_memory_that_no_program_wrote_is_not_ok(kernel: str, direction: int) -> None:
    def without_the_last_program(launch: Launch) -> None:
        lacking = launch.kernel.__name__ == kernel
        _runtime.run(launch._replace(programs=launch.programs - lacking))

    with _runtime.redirect(without_the_last_program):
        row = rows_of_a_gate()[direction]
    assert row["error"] == float("inf")
    assert not row["ok"]


def test_an_op_has_a_row_for_each_direction_size_dtype_and_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "SIZES", (SIZE,))
    found = numbers.measure(["gate_features", "attention_gate_from_taps"])
    shapes = {row["shape"] for row in found if row["op"] == "gate_features"}
    assert shapes == {str(SIZE), str(numbers.MANY_MAPS)}
    assert len(found) == 2 * 2 * 3 * 2 + 3 * 2
    assert all(row["ok"] for row in found), found
