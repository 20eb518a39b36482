"""What the tests of interpreted kernels share."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from abn_fast.kernels import _dispatch

assert _dispatch.INTERPRETED, "run with TRITON_INTERPRET=1"

FORMATS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "sliced": lambda x: torch.cat([x, x], 1)[:, 1 : 1 + x.shape[1]],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand(x.shape),
    "unaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Memory that nobody wrote is NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def results(op: Callable[..., Any], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, nested tuples flattened, and gradients of a fixed random projection of them."""
    outputs = _flatten(op(*inputs))
    generator = torch.Generator().manual_seed(1)
    projections = [torch.randn(y.shape, generator=generator).to(inputs[0].dtype).to(y.dtype) for y in outputs]
    return [*outputs, *torch.autograd.grad(outputs, inputs, projections)]


def exact(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs in float64."""
    return [x.detach().double().requires_grad_() for x in inputs]


def assert_accurate(
    ours: Sequence[Tensor], torchs: Sequence[Tensor], truth: Sequence[Tensor], largest: Sequence[Tensor | None] = ()
) -> None:
    """Errors against float64 of at most twice torch's, in the same dtypes, and one rounding of the largest value.

    The largest value of a sum that cancels is the sum of its terms' magnitudes: `largest` gives it where it is not the
    result's own. In float64 the truth is torch's own: there, some roundings.
    """
    known = [*largest, *[None] * (len(truth) - len(largest))]
    for value, theirs, true, most in zip(ours, torchs, truth, known, strict=True):
        assert (value.shape, value.dtype) == (theirs.shape, theirs.dtype)
        error, allowed = (value.double() - true).abs().max(), (theirs.double() - true).abs().max()
        roundings = 20 if value.dtype == torch.float64 else 1
        most = true.abs().max() if most is None else most
        assert error <= 2 * allowed + roundings * torch.finfo(value.dtype).eps * most


def _flatten(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [y for each in outputs for y in _flatten(each)]
