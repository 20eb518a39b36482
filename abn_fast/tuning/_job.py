from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from abn_fast.kernels import _runtime, _tuning
from abn_fast.kernels._runtime import Launch
from abn_fast.kernels._tuning_file import candidates
from abn_fast.proofs.cases import Case

FORMATS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Job:
    """A configuration that launchers ask for, and the call in which they do."""

    request: _tuning.Request
    case: Case
    direction: str
    dtype: torch.dtype
    memory_format: torch.memory_format

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.request.sizes)
        dtype, layout = (str(x).removeprefix("torch.") for x in (self.dtype, self.memory_format))
        return f"{self.request.kernel} ({sizes}, {dtype}, {layout})"

    def call(self, device: torch.device, runner: _runtime.Runner) -> tuple[list[Tensor], list[Launch]]:
        """The results of the direction, outputs or gradients, and its launches; the same inputs whenever called."""
        return call(self.case, self.direction, self.dtype, self.memory_format, device, runner)


def jobs(
    cases: Sequence[Case],
    dtypes: Sequence[torch.dtype],
    device: torch.device,
    ops: Sequence[str],
    log: Callable[[str], None],
) -> Iterator[Job]:
    """What the kernels of these ops ask for in the cases, where they have candidates to try; each request once."""
    seen = set()
    for case, dtype, memory_format in product(cases, dtypes, FORMATS):
        for direction in case.directions:
            try:
                with _tuning.use([]), _tuning.requests() as made:
                    call(case, direction, dtype, memory_format, device, lambda _: None)
            except torch.OutOfMemoryError:
                log(f"{case.op} ({case.size}, {dtype}): left out, it needs more memory than the GPU has")
                break
            for request in made:
                op = request.kernel.partition(".")[0]
                if op in ops and request not in seen and candidates(op).get(request.kernel):
                    seen.add(request)
                    yield Job(request, case, direction, dtype, memory_format)


def call(
    case: Case,
    direction: str,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    device: torch.device,
    runner: _runtime.Runner,
) -> tuple[list[Tensor], list[Launch]]:
    """The results of a direction of a case and the launches that it makes, which go to `runner`."""
    generator = torch.Generator(device).manual_seed(0)
    inputs = case.inputs(dtype, memory_format, partial(torch.randn, generator=generator, device=device))
    launches: list[Launch] = []

    def keep(launch: Launch) -> None:
        launches.append(launch)
        runner(launch)

    with _runtime.redirect(keep):
        outputs = case.call(inputs)
        if direction == "forward":
            return [y.detach() for y in outputs], launches
        launches.clear()
        projections = [torch.randn(y.shape, generator=generator, device=device).to(y.dtype) for y in outputs]
        projections = [torch.empty_like(y).copy_(p) for y, p in zip(outputs, projections, strict=True)]
        gradients = torch.autograd.grad(outputs, inputs, projections, allow_unused=True)
    return [d for d in gradients if d is not None], launches
