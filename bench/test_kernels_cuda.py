"""The kernels on a GPU against their plain definitions, eager and compiled; float32 without TF32 on both sides."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from abn_fast.proofs.cases import Case, cases
from abn_fast.tuning.clock import Clock, CudaClock
from bench._cuda import PEERS, compare, copy_bandwidth, problem

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="measures on a GPU, and torch sees none")

KINDS = [(torch.float32, torch.contiguous_format), (torch.float16, torch.channels_last)]
CASES = {f"{case.op}, {case.size}, {direction}": (case, direction) for case in cases() for direction in case.directions}


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="module")
def clock(device: torch.device) -> Clock:
    return CudaClock(device)


@pytest.fixture(scope="module")
def bandwidth(device: torch.device, clock: Clock) -> float:
    return copy_bandwidth(device, clock)


@pytest.fixture(autouse=True)
def _float32_is_not_tf32() -> Iterator[None]:
    """Of convolutions, where torch allows TF32 by default; of matrix products it does not."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before
    torch._dynamo.reset()


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("case", "direction"), CASES.values(), ids=CASES)
def test_kernels_against_the_definition(
    case: Case,
    direction: str,
    kind: tuple[torch.dtype, torch.memory_format],
    peer: str,
    device: torch.device,
    clock: Clock,
    bandwidth: float,
    benchmark: Any,
) -> None:
    torch.manual_seed(0)
    compare(benchmark, problem(case, direction, *kind, device), peer, clock, bandwidth)
