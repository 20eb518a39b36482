"""Errors of the kernels, forward and backward, in Triton's interpreter: the launchers and autograd of CUDA tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels import reference
from abn_fast.proofs.cases import DTYPES, FORMATS, OPS, Case, Size, cases
from abn_fast.proofs.interpreted import interpreted

SIZES = (
    Size(5, channels=3, stage_channels=5, classes=1, height=1, width=1),
    Size(3, channels=7, stage_channels=11, classes=10, height=5, width=7),
    Size(2, channels=16, stage_channels=24, classes=10, height=7, width=7),
    Size(1, channels=18, stage_channels=32, classes=100, height=14, width=14),
    Size(2, channels=13, stage_channels=17, classes=1000, height=2, width=3),
)
MANY_MAPS = Size(1, channels=5, stage_channels=1, classes=1, height=2, width=3, maps=40)
FEW = 8
"""A result of fewer numbers can be right by chance: PyTorch is then given the largest error of its results alike."""
TRUNCATED = 2
"""Triton's interpreter cuts float32 off to bfloat16, where a GPU rounds: up to twice the error of a rounding."""
PARTS = 8
"""Into which a projection is cut, for how large the terms are that a gradient adds up."""

Row = dict[str, Any]


def rows(ops: Sequence[str] | None = None) -> list[Row]:
    """The error of every op against float64, and twice that of PyTorch in the same dtype plus one rounding."""
    found: list[Row] = interpreted(f"{__name__}:measure", ops)
    return found


def measure(ops: Sequence[str] | None = None) -> list[Row]:
    """`rows`, in a process where Triton interprets. Memory that nobody wrote is NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        return [
            row
            for op in dict.fromkeys(case.op for case in cases() if ops is None or case.op in ops)
            for size in (*SIZES, *([MANY_MAPS] if _has_maps(op) else []))
            for dtype in DTYPES
            for memory_format in FORMATS
            for row in rows_of(Case(op, size, OPS[op]), dtype, memory_format)
        ]
    finally:
        torch.use_deterministic_algorithms(before)


def rows_of(case: Case, dtype: torch.dtype, memory_format: torch.memory_format) -> list[Row]:
    """Of one case, a row for each direction; its error is of the result that comes closest to what is allowed."""
    torch.manual_seed(0)
    inputs = case.inputs(dtype, memory_format)
    exact = tuple(x.detach().double().requires_grad_(x.requires_grad) for x in inputs)
    # PyTorch's error depends on the order of its sums, and that on the layout
    other = tuple(_other_layout(x.detach()).requires_grad_(x.requires_grad) for x in inputs)
    compared = case.definition.compared
    ours, truth = compared(case.call(inputs)), compared(case.call(exact, reference))
    torchs = [compared(case.call(each, reference)) for each in (inputs, other)]
    terms = [torch.maximum(y.abs(), most.abs()) for y, most in zip(truth, _largest(case, truth, exact), strict=True)]
    found = {"forward": _compare(ours, truth, terms, torchs)}
    if "backward" in case.directions:
        projections = [torch.randn_like(y) for y in ours]
        terms = _terms(truth, exact, projections)
        ours, truth = _gradients(ours, inputs, projections), _gradients(truth, exact, projections)
        torchs = [_gradients(y, each, projections) for y, each in zip(torchs, (inputs, other), strict=True)]
        found["backward"] = _compare(ours, truth, terms, torchs)
    if dtype == torch.bfloat16:
        found = {name: [(error, TRUNCATED * allowed) for error, allowed in errors] for name, errors in found.items()}
    return [_row(case, direction, dtype, memory_format, errors) for direction, errors in found.items()]


def _has_maps(op: str) -> bool:
    shapes = OPS[op].shapes
    return shapes(MANY_MAPS) != shapes(MANY_MAPS._replace(maps=1))


def _row(
    case: Case,
    direction: str,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    errors: list[tuple[float, float]],
) -> Row:
    error, allowed = max(errors, key=lambda pair: pair[0] / pair[1] if pair[1] else float(pair[0] > 0))
    return {
        "op": case.op,
        "direction": direction,
        "dtype": str(dtype).removeprefix("torch."),
        "layout": "channels_last" if memory_format == torch.channels_last else "contiguous",
        "shape": str(case.size),
        "error": error,
        "allowed": allowed,
        "ok": all(error <= allowed for error, allowed in errors),
    }


def _compare(
    ours: list[Tensor], truth: list[Tensor], terms: list[Tensor], torchs: list[list[Tensor]]
) -> list[tuple[float, float]]:
    """The error of each result, infinite where it is not finite or of another kind, and what is allowed."""
    largest = [term.abs().max().item() for term in terms]
    theirs = [max(_error(x, y) for x in each) for *each, y in zip(*torchs, truth, strict=True)]
    found = []
    for x, y, most, their, like in zip(ours, truth, largest, theirs, torchs[0], strict=True):
        if (x.shape, x.dtype) != (like.shape, like.dtype) or not x.isfinite().all():
            found.append((float("inf"), 0.0))
            continue
        if x.numel() < FEW:
            kin = zip(theirs, largest, torchs[0], strict=True)
            their = max([their, *(most * error / size for error, size, z in kin if z.dtype == x.dtype and size)])
        found.append((_error(x, y), 2 * their + torch.finfo(x.dtype).eps * most))
    return found


def _error(x: Tensor, truth: Tensor) -> float:
    return (x.double() - truth).abs().max().item()


def _other_layout(x: Tensor) -> Tensor:
    contiguous = x.is_contiguous() and x.ndim == 4
    return x.contiguous(memory_format=torch.channels_last if contiguous else torch.contiguous_format)


def _largest(case: Case, truth: list[Tensor], exact: tuple[Tensor, ...]) -> list[Tensor]:
    """The magnitudes of what each output adds up, where it cancels: a mean over numbers of both signs."""
    if case.op != "batch_statistics":
        return truth
    return case.definition.compared(case.call(tuple(x.abs() for x in exact), reference))


def _gradients(outputs: list[Tensor], inputs: tuple[Tensor, ...], projections: list[Tensor]) -> list[Tensor]:
    return list(
        torch.autograd.grad(
            outputs, inputs, [p.to(y) for p, y in zip(projections, outputs, strict=True)], retain_graph=True
        )
    )


def _terms(outputs: list[Tensor], inputs: tuple[Tensor, ...], projections: list[Tensor]) -> list[Tensor]:
    """At most the magnitudes of each gradient's terms, which may cancel: gradients are linear in the projection."""
    sums = [torch.zeros_like(x) for x in inputs]
    for part in range(PARTS):
        cut = [p * (torch.arange(p.numel()).view(p.shape) % PARTS == part) for p in projections]
        for total, gradient in zip(sums, _gradients(outputs, inputs, cut), strict=True):
            total += gradient.abs()
    return sums
