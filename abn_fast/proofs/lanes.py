"""How many lanes a kernel's loads and stores of large tensors have, idle ones included: its work, in bytes."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor
from triton.runtime import interpreter

from abn_fast.kernels import _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.proofs.cases import Case, Size, cases
from abn_fast.proofs.interpreted import interpreted
from abn_fast.proofs.recorded import features_of

SAMPLES = 4
"""Programs of a launch that are run."""

Wanted = tuple[str, list[int], str, bool, str]
"""Op, size, dtype, whether channels_last, target."""


def feature_lanes(wanted: Sequence[Wanted]) -> list[list[float]]:
    """Bytes that a program's lanes of features and matrices move, for each launch of each case."""
    found: list[list[float]] = interpreted(f"{__name__}:measure", wanted)
    return found


def measure(wanted: Sequence[Wanted]) -> list[list[float]]:
    """`feature_lanes`, in a process where Triton interprets."""
    found = []
    for op, size, dtype, channels_last, target in wanted:
        case = next(cases(op)).at(Size(*size))
        found.append(_of_case(case, getattr(torch, dtype), channels_last, target))
    return found


def _of_case(case: Case, dtype: torch.dtype, channels_last: bool, target: str) -> list[float]:
    counted: list[float] = []
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    with _tuning.pretend(target), _runtime.redirect(lambda launch: counted.append(_sampled(launch, case))):
        list(case.step(dtype, memory_format))
    return counted


def _sampled(launch: Launch, case: Case) -> float:
    lanes = _Lanes(launch, case)
    programs = sorted({launch.programs * i // SAMPLES for i in range(SAMPLES)})
    with lanes:
        for lanes.program in programs:
            _runtime.run(launch._replace(programs=1))
    return lanes.bytes / len(programs)


class _Lanes:
    """Counts, and computes nothing."""

    def __init__(self, launch: Launch, case: Case) -> None:
        self.bytes = self.program = 0
        tensors = [*features_of(launch, case).values(), *_matrices(launch, case)]
        self._places = [(x.data_ptr(), x.data_ptr() + x.numel() * x.element_size()) for x in tensors]

    def __enter__(self) -> None:
        builder = interpreter.InterpreterBuilder
        self._undo = ExitStack()

        def load(this: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
            self._count(pointers)
            dtype = pointers.get_element_ty()
            return interpreter.TensorHandle(np.zeros(pointers.data.shape, interpreter._get_np_dtype(dtype)), dtype)

        replacements = {
            "create_masked_load": load,
            "create_masked_store": lambda this, pointers, *rest: self._count(pointers),
            "create_dot": lambda this, a, b, d, *rest: d,
            "create_get_program_id": lambda this, axis: this.get_int32(self.program),
        }
        for name, function in replacements.items():
            self._undo.callback(setattr, builder, name, getattr(builder, name))
            setattr(builder, name, function)

    def __exit__(self, *_: Any) -> None:
        self._undo.close()

    def _count(self, pointers: Any) -> None:
        # a lane that is idle may point outside
        middle = np.median(pointers.data.astype(np.float64))
        if any(start <= middle < stop for start, stop in self._places):
            self.bytes += pointers.data.size * pointers.get_element_ty().primitive_bitwidth // 8


def _matrices(launch: Launch, case: Case) -> list[Tensor]:
    shape = (case.size.classes, case.size.stage_channels)
    return [x for x in launch.arguments if isinstance(x, Tensor) and tuple(x.shape[:2]) == shape]
