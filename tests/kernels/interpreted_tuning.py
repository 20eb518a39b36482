"""What the tuner tries, computed by the real kernels on CPU tensors: TRITON_INTERPRET=1 pytest and this file's name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from abn_fast.kernels import _tuning, _tuning_file
from abn_fast.proofs.cases import Size, cases
from abn_fast.tuning import tune
from abn_fast.tuning.clock import Times
from tests.kernels._interpreted import _poisoned  # noqa: F401 - pytest finds fixtures by name

SIZE = Size(2, 24, 40, 20, 7, 7)


def clock(*runs: Callable[[], Any]) -> list[Times]:
    return [Times(1, 1, 1) for _ in runs]


@pytest.mark.parametrize("op", [op for op in _tuning_file.ops() if any(_tuning_file.candidates(op).values())])
def test_every_candidate_gives_the_numbers_of_the_shipped_configuration(op: str, tmp_path: Path) -> None:
    tried = {case.op: replace(case, size=SIZE) for case in cases() if case.op.startswith(op)}
    lines: list[str] = []
    with _tuning.pretend("sm_90", "Card of the tests"):
        summary = tune(
            list(tried.values()),
            [torch.float32],
            [op],
            tmp_path / "tuning.json",
            log=lines.append,
            device=torch.device("cpu"),
            clock=clock,
        )
    assert summary.measured > 0
    assert lines == []
