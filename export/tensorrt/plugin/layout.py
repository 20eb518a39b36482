from dataclasses import dataclass
from typing import Any

import torch

from abn_fast.kernels._tuning import configuration, pretend
from abn_fast.kernels.attention_gate._plan import make_plan

VECTOR = 8
"""Elements of a whole vector in 16 bits: pixels that vary are divided as if they were so many."""


@dataclass(frozen=True)
class GateSpec:
    """What is known of a gate when its kernel is compiled."""

    channels: int
    maps: int
    """A pixel's, T."""
    dtype: torch.dtype
    """Of features and gated features."""
    score_dtype: torch.dtype
    """Of score and map."""
    channels_last: bool
    residual: bool
    batch: int
    """To be fastest at."""
    pixels: int
    """Of the one size of features, or of the size to be fastest at."""
    fixed: bool
    """Whether there is one size of features."""


@dataclass(frozen=True)
class GateDivision:
    """How the programs of a launch divide a batch of images among them, as `kernels.attention_gate` would."""

    run: int
    """Channels whose pixels are divided together."""
    block_a: int
    block_b: int
    splits: int
    chunks: int
    warps: int

    def pixels_of_tiles(self, pixels: Any) -> Any:
        """What `block_b` divides, of a number or an expression."""
        return pixels * self.run

    def programs(self, batch: int, pixels: int) -> int:
        """Of a launch."""
        tiles: int = -(-self.pixels_of_tiles(pixels) // self.block_b)
        return batch * tiles * self.splits

    def constants(self, spec: GateSpec) -> dict[str, Any]:
        """The kernel's constexprs by name."""
        return {
            "T": spec.maps,
            "C": spec.channels,
            "RUN": self.run,
            "PIXELS": spec.pixels if spec.fixed else None,
            "CHANNELS_LAST": spec.channels_last,
            "BLOCK_A": self.block_a,
            "BLOCK_B": self.block_b,
            "RESIDUAL": spec.residual,
        }


def divide(spec: GateSpec, target: str) -> GateDivision:
    """The division that the kernel's own launcher chooses on that target for the batch and pixels to be fastest at."""
    pixels = spec.pixels if spec.fixed else -(-spec.pixels // VECTOR) * VECTOR
    layout = torch.channels_last if spec.channels_last else torch.contiguous_format
    shape = (spec.batch, spec.channels, pixels, 1)
    features = torch.empty(shape, dtype=spec.dtype, device="meta", memory_format=layout)
    with pretend(target):
        chosen = configuration("attention_gate.forward", features, maps=spec.maps)
    plan = make_plan(
        spec.batch,
        spec.channels,
        pixels,
        spec.maps,
        spec.dtype.itemsize,
        spec.channels_last,
        False,
        chosen,
    )
    return GateDivision(plan.b // pixels, plan.block_a, plan.block_b, plan.splits, plan.chunks, plan.warps)
