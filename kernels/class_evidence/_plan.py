from dataclasses import dataclass

import torch
from torch import Tensor

from abn_fast.kernels._layout import memory_format
from abn_fast.kernels._tuning import Configuration, configuration

ENOUGH_PROGRAMS = 128
"""Fewer leave multiprocessors idle: up to this number, partial sums are worth what they cost."""
MANY_PROGRAMS = 256
"""More do not hide more latency."""
OVERHEAD = 0.02
"""Share of a read of z up to which partial sums may be moved for more programs."""
PARTIAL_BYTES = 8
"""A partial sum is written and read."""


@dataclass(frozen=True)
class Plan:
    """How a launch divides [N, K, H, W] into tiles of classes and pixels, and those among programs."""

    block_classes: int
    block_pixels: int
    tile: int
    """Pixels of a tile, at most block_pixels: whole rows where a row fits."""
    rows: int
    """Rows of a tile; 0 where no row fits."""
    tiles: int
    """Tiles of an image."""
    planes: int
    """What is stored of the nine taps."""
    along_classes: bool
    """A program's steps go over blocks of classes, not over tiles of pixels."""
    splits: int
    """Programs along the classes."""
    bands: int
    """Programs along the pixels of an image."""
    steps: int
    warps: int

    def programs(self, batch: int) -> int:
        """The programs of a launch."""
        return batch * self.bands * self.splits


@dataclass(frozen=True)
class Groups:
    """How the statistics' launch divides the batch: groups of `share` images, or pixels in channels_last."""

    block_classes: int
    block_pixels: int
    blocks: int
    groups: int
    total: int
    share: int
    warps: int

    def programs(self) -> int:
        """The programs of a launch."""
        return self.blocks * self.groups


def takes_one_pass(z: Tensor, taps: int) -> bool:
    """Whether, where statistics are given, one launch ("backward") both reduces and writes the gradient of z."""
    return bool(_configuration("backward", z, len(z), taps)["one_pass"])


def make_plan(kernel: str, z: Tensor, taps: int, batch: int) -> Plan:
    """The division for "apply", "reduce", "gradient" or "backward" of z [N, K, H, W]; taps is 9, 0 for the log map."""
    _, classes, height, width = z.shape
    pixels = height * width
    chosen = _configuration(kernel, z, batch, taps)
    along_classes = bool(chosen["along_classes"])
    block_classes = min(chosen["block_classes"], max(16, _power(classes)))
    block_pixels = min(chosen["block_pixels"], max(16, _power(pixels)))
    rows = _ceil(height, _ceil(height, block_pixels // width)) if block_pixels >= width else 0
    tile = rows * width or block_pixels
    tiles, blocks = _ceil(pixels, tile), _ceil(classes, block_classes)
    planes = 1 if tiles == 1 or not taps else 3 if rows else 9

    sums = (2 + taps) * PARTIAL_BYTES
    if along_classes:
        units, others, shared = blocks, tiles, classes
        partial = {"apply": planes * PARTIAL_BYTES, "reduce": 0, "backward": 0, "gradient": 0}[kernel]
    else:
        units, others, shared = tiles, blocks, pixels
        partial = {"apply": PARTIAL_BYTES, "reduce": sums, "backward": sums, "gradient": 0}[kernel]
    needed = _ceil(ENOUGH_PROGRAMS, max(1, batch * others))
    affordable = int(OVERHEAD * shared * z.element_size() / partial) if partial else MANY_PROGRAMS
    wanted = max(needed, min(affordable, _ceil(MANY_PROGRAMS, max(1, batch * others))))
    steps = max(1, units // wanted)
    return Plan(
        block_classes=block_classes,
        block_pixels=block_pixels,
        tile=tile,
        rows=rows,
        tiles=tiles,
        planes=planes,
        along_classes=along_classes,
        splits=_ceil(blocks, steps) if along_classes else blocks,
        bands=tiles if along_classes else _ceil(tiles, steps),
        steps=steps,
        warps=chosen["num_warps"],
    )


def make_groups(z: Tensor, batch: int) -> Groups:
    """The division for the statistics of z [N, K, H, W]."""
    _, classes, height, width = z.shape
    pixels = height * width
    chosen = _configuration("statistics", z, batch, 0)
    channels_last = memory_format(z) == torch.channels_last
    block_classes = min(chosen["block_classes"], _power(classes))
    block_pixels = min(chosen["block_pixels"], _power(pixels))
    blocks = _ceil(classes, block_classes)
    total = batch * pixels if channels_last else batch
    needed = _ceil(ENOUGH_PROGRAMS, blocks)
    affordable = int(OVERHEAD * batch * pixels * z.element_size() / (2 * PARTIAL_BYTES))
    wanted = max(needed, min(affordable, _ceil(MANY_PROGRAMS, blocks)))
    share = max(1, total // wanted)
    return Groups(
        block_classes=block_classes,
        block_pixels=block_pixels,
        blocks=blocks,
        groups=_ceil(total, share),
        total=total,
        share=share,
        warps=chosen["num_warps"],
    )


def _configuration(kernel: str, z: Tensor, batch: int, taps: int) -> Configuration:
    _, classes, height, width = z.shape
    sizes = {"batch": batch, "classes": classes, "pixels": height * width, "taps": taps}
    return configuration(f"class_evidence.{kernel}", z, **sizes)


def _ceil(n: int, d: int) -> int:
    return -(-n // d)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
