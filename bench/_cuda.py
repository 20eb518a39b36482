"""Kernels on a GPU against PyTorch's own: times by CUDA events, share of the copy bandwidth, peak memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch import config as functorch_config

from abn_fast import kernels
from abn_fast.benchmark_report import Case as BenchCase
from abn_fast.benchmark_report import Comparison, Measured
from abn_fast.kernels import reference
from abn_fast.proofs.cases import Case
from abn_fast.tuning.clock import Clock, Times
from bench._compare import note

PEERS = ("eager", "torch.compile")
COPY_BYTES = 1 << 29
_SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

Run = Callable[[], Any]


class Problem(NamedTuple):
    """A direction of a case, its inputs and the gradients of its outputs."""

    case: Case
    direction: str
    inputs: tuple[Tensor, ...]
    projections: list[Tensor]

    def __str__(self) -> str:
        return f"{self.case.op} {self.direction}, {self.case.size}, {_name(self.inputs[0].dtype)}, {self.layout}"

    @property
    def layout(self) -> str:
        """Of the features."""
        return "NCHW" if self.inputs[0].is_contiguous() else "channels_last"

    def described(self) -> BenchCase:
        """The case in the words of all suites; channels, which those have none for, stand in its name."""
        size = self.case.size
        return BenchCase(
            f"{self.case.op}, C {size.channels}, C' {size.stage_channels}",
            batch=size.batch,
            size=size.height,
            dtype=_SHORT.get(self.inputs[0].dtype, _name(self.inputs[0].dtype)),
            layout=self.layout,
            device=self.inputs[0].device.type,
            mode=self.direction,
            classes=size.classes,
            tasks=size.maps,
        )

    def run(self, functions: Any, backend: str | None = None) -> Run:
        """The direction as of these functions, compiled by a backend; of a backward, the forward has already run."""
        call: Callable[..., list[Tensor]] = partial(self.case.call, functions=functions)
        if backend is not None:
            call = torch.compile(call, backend=backend, fullgraph=True, dynamic=False)
        if self.direction == "forward":
            return partial(call, self.inputs)
        outputs = call(self.inputs)
        return partial(
            torch.autograd.grad, outputs, self.inputs, self.projections, retain_graph=True, allow_unused=True
        )


def problem(
    case: Case, direction: str, dtype: torch.dtype, memory_format: torch.memory_format, device: torch.device
) -> Problem:
    """Random inputs on a device."""
    inputs = case.inputs(dtype, memory_format, partial(torch.randn, device=device))
    with torch.no_grad():
        projections = [torch.empty_like(y).normal_() for y in case.call(inputs, reference)]
    return Problem(case, direction, inputs, projections)


def compare(
    benchmark: Any,
    problem: Problem,
    peer: str,
    clock: Clock,
    bandwidth: float,
    backend: str = "inductor",
) -> float:
    """Record the kernels against the plain definition, "eager" or by "torch.compile", after both gave the same."""
    with functorch_config.patch(donated_buffer=False):  # which a backward that runs again must not have
        ours = problem.run(kernels)
        theirs = problem.run(reference, backend if peer == "torch.compile" else None)
        assert_accurate(_results(ours), _results(theirs), _exact(problem))
        memory, peer_memory = (_peak_bytes(run, problem.inputs[0].device) for run in (ours, theirs))
        times, peer_times = clock(ours, theirs)
    seconds = times.median / 1e6
    share = problem.case.floor(problem.direction, problem.inputs[0].dtype) / seconds / bandwidth
    finished = partial(_finish, ours, problem.inputs[0].device)
    return _record(benchmark, problem, f"definition, {peer}", finished, times, peer_times, share, memory, peer_memory)


def copy_bandwidth(device: torch.device, clock: Clock, size: int = COPY_BYTES) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.zeros(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    (times,) = clock(partial(target.copy_, source))
    return 2 * size / (times.median / 1e6)


def assert_accurate(ours: Sequence[Tensor], theirs: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    """Errors against float64 of at most twice those of torch in the same dtypes, and the rounding of a result."""
    for value, other, true in zip(ours, theirs, exact, strict=True):
        assert (value.shape, value.dtype) == (other.shape, other.dtype)
        error, allowed = ((x.double() - true).abs().max() for x in (value, other))
        roundings = 1 if value.dtype.itemsize == 2 else 16  # of a sum's terms
        assert error <= 2 * allowed + roundings * torch.finfo(value.dtype).eps * true.abs().max()


def _record(
    benchmark: Any,
    problem: Problem,
    peer: str,
    ours: Run,
    times: Times,
    peer_times: Times,
    share: float,
    memory: int,
    peer_memory: int,
) -> float:
    ratio = peer_times.median / times.median
    case = problem.described()
    seconds = (Measured(name, *(each / 1e6 for each in t)) for name, t in (("kernels", times), (peer, peer_times)))
    note(
        benchmark,
        Comparison(case, "seconds", next(seconds), next(seconds)),
        Comparison.of(case, "bytes", {"kernels": [memory], peer: [peer_memory]}),
    )
    benchmark.extra_info.update(
        case=str(problem),
        path="kernels",
        peer=peer,
        ratio=round(ratio, 3),
        microseconds=round(times.median, 2),
        quartiles=[round(times.lower, 2), round(times.upper, 2)],
        peer_microseconds=round(peer_times.median, 2),
        bandwidth_share=round(share, 3),
        peak_bytes=memory,
        peer_peak_bytes=peer_memory,
    )
    benchmark.pedantic(ours, rounds=1)
    print(
        f"\n{problem}: kernels {times.median:.1f} us, {ratio:.2f} times as fast as {peer}, "
        f"{share:.0%} of the copy bandwidth, peak {memory / 1e6:.1f} MB (peer {peer_memory / 1e6:.1f} MB)"
    )
    return ratio


def _exact(problem: Problem) -> list[Tensor]:
    inputs = tuple(x.detach().double().requires_grad_(x.requires_grad) for x in problem.inputs)
    projections = [p.double() for p in problem.projections]
    return _results(problem._replace(inputs=inputs, projections=projections).run(reference))


def _results(run: Run) -> list[Tensor]:
    return [x.detach() for x in run() if x is not None]


def _finish(run: Run, device: torch.device) -> None:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_bytes(run: Run, device: torch.device) -> int:
    """Memory that a run takes beyond what is there before."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    _finish(run, device)
    return torch.cuda.max_memory_allocated(device) - before


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
