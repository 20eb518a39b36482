import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
"""Whether Triton kernels run in Triton's interpreter, on CPU tensors."""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


_HAS_TRITON = _installed("triton")
_forced: bool | None = None
_launches_anyway = False


def runs_triton(x: Tensor) -> bool:
    """Whether the kernels can run on x: a CUDA tensor, or any where Triton interprets."""
    return _HAS_TRITON and (x.is_cuda or INTERPRETED or _launches_anyway)


def uses_triton(x: Tensor) -> bool:
    """Whether ops of x are the torch ops around Triton kernels, or plain definitions that every tracer sees through."""
    return runs_triton(x) if _forced is None else _forced


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether autograd would record an op of these tensors: ops for inference then give way to their parts."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


@contextmanager
def force(uses: bool) -> Iterator[None]:
    """Fix the answer of `uses_triton`: capture a GPU's graph on CPU tensors, or compare both paths."""
    global _forced
    before, _forced = _forced, uses
    try:
        yield
    finally:
        _forced = before


@contextmanager
def force_triton() -> Iterator[None]:
    """Have `runs_triton` and `uses_triton` true of every tensor, for launches that go elsewhere than to a GPU."""
    global _launches_anyway
    before, _launches_anyway = _launches_anyway, True
    try:
        with force(True):
            yield
    finally:
        _launches_anyway = before
