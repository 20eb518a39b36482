from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from abn_fast.export.metadata import Metadata


class Runner(Protocol):
    """A network made ready by a runtime; `run` may be called by several threads at once."""

    @property
    def runtime(self) -> str:
        """Name in `RUNTIMES`."""

    @property
    def provider(self) -> str:
        """What really computes, as the runtime itself says after loading."""

    @property
    def metadata(self) -> Metadata:
        """Outputs, sizes, classes and preprocessing."""

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs of normalised images, float32 [N, C, H, W], in the order of `metadata.outputs`."""


@dataclass(frozen=True)
class RunnerOptions:
    """How to load a file."""

    device: str | None = None
    """cpu, cuda, cuda:1; by default the GPU if there is one that the runtime can use."""
    threads: int | None = None
    """Of the CPU; None for the runtime's own choice."""
    dtype: torch.dtype | None = None
    """Of a network's products; None for its own. Of a file it is fixed."""
    outputs: tuple[str, ...] | None = None
    """Names, in order; None for a network's logits and map, or all that a file has."""
    mode: str | None = None
    """How torch computes: eager, compiled or cuda-graph; None for eager, and for files."""
