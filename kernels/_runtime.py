"""How a kernel is launched: everything that launches one calls `launch`, so that the proofs can stand in between."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from abn_fast.kernels import _dispatch


class Launch(NamedTuple):
    """A kernel, its grid and what it is given."""

    kernel: Any
    programs: int
    device: torch.device
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    """Constexprs by name, and num_warps and num_stages."""

    @property
    def name(self) -> str:
        """Op and kernel: "attention_gate.forward_kernel"."""
        function = self.kernel.fn
        return f"{function.__module__.split('.')[-2]}.{function.__name__}"


Runner = Callable[[Launch], None]


def run(launch: Launch) -> None:
    """Start the programs; nothing where there are none."""
    if launch.programs:
        with torch.cuda.device(launch.device) if launch.device.type == "cuda" else nullcontext():
            launch.kernel[(launch.programs,)](*launch.arguments, **launch.constants)


_runner: Runner = run


def launch(kernel: Any, programs: int, device: torch.device, *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on a grid of one dimension."""
    _runner(Launch(kernel, programs, device, arguments, constants))


@contextmanager
def redirect(runner: Runner) -> Iterator[None]:
    """Hand every launch to `runner` instead; any tensor then takes the path of a CUDA tensor."""
    global _runner
    before, _runner = _runner, runner
    try:
        with _dispatch.force_triton():
            yield
    finally:
        _runner = before


@contextmanager
def record() -> Iterator[list[Launch]]:
    """The launches of what is called inside, none of them run: outputs hold whatever their memory held."""
    launches: list[Launch] = []
    with redirect(launches.append):
        yield launches


def accumulator(*tensors: Tensor) -> Any:
    """Triton's dtype of sums: float64 where a tensor is float64, else float32."""
    return tl.float64 if torch.float64 in {x.dtype for x in tensors} else tl.float32
