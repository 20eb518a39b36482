from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abn_fast.kernels import _tuning
from abn_fast.kernels._layout import memory_format as format_of
from abn_fast.kernels._runtime import Launch, record
from abn_fast.proofs.cases import Case
from abn_fast.proofs.machine_code import Source, gpu_target, launch_source

_CONFIGURED = ("BLOCK", "GROUP", "TILE", "num_")


class Recorded(NamedTuple):
    """A launch that a case makes on a target, without its tensors."""

    case: Case
    direction: str
    dtype: torch.dtype
    memory_format: torch.memory_format
    target: str
    kernel: str
    configuration: dict[str, Any]
    programs: int
    row_bytes: dict[str, int]
    """Bytes that lie beside one another in each feature-sized argument: of an image's channel, or a pixel."""
    bytes: int
    """Of all tensors."""
    source: Source

    @property
    def names(self) -> dict[str, str]:
        """What a row of a table says of it."""
        return {
            "op": self.case.op,
            "kernel": self.kernel,
            "direction": self.direction,
            "target": self.target,
            "dtype": str(self.dtype).removeprefix("torch."),
            "layout": layout_name(self.memory_format),
            "case": str(self.case.size),
        }


def layout_name(memory_format: torch.memory_format) -> str:
    """As tables call it."""
    return "channels_last" if memory_format == torch.channels_last else "contiguous"


def recorded(case: Case, dtype: torch.dtype, memory_format: torch.memory_format, target: str) -> Iterator[Recorded]:
    """The launches of a case, forward and backward, as on that target."""
    with _tuning.pretend(target), record() as launches:
        made = {direction: len(launches) for direction in case.step(dtype, memory_format)}
    for i, launch in enumerate(launches):
        features = features_of(launch, case)
        yield Recorded(
            case,
            "forward" if i < made["forward"] else "backward",
            dtype,
            memory_format,
            target,
            launch.kernel.fn.__name__,
            {name: value for name, value in launch.constants.items() if name.startswith(_CONFIGURED)},
            launch.programs,
            {name: _row_bytes(x) for name, x in features.items()},
            sum(x.numel() * x.element_size() for x in launch.arguments if isinstance(x, Tensor)),
            launch_source(launch, gpu_target(target)),
        )


def features_of(launch: Launch, case: Case) -> dict[str, Tensor]:
    """The feature-sized arguments of a launch, by the kernel's names."""
    size = case.size
    shapes = {(c, size.height, size.width) for c in (size.channels, size.stage_channels, size.classes)}
    arguments = zip(launch.kernel.arg_names, launch.arguments, strict=False)  # constants follow
    return {name: x for name, x in arguments if isinstance(x, Tensor) and tuple(x.shape[1:]) in shapes}


def _row_bytes(x: Tensor) -> int:
    row = x.shape[1] if format_of(x) == torch.channels_last else x.shape[2] * x.shape[3]
    return row * x.element_size()
