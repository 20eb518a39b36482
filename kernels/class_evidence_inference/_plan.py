from collections.abc import Mapping
from dataclasses import dataclass

ENOUGH_PROGRAMS = 128
"""Fewer leave multiprocessors idle."""
TILE_PIXELS = 64
"""Pixels that count as a program's when classes are divided; the tiles of a configuration may be larger."""
FEWEST_CLASSES = 32
"""Of a part: fewer would cost more partial taps than the product reads."""
MOST_PIXELS = 2**30
"""Of a group: their number is an int32."""


@dataclass(frozen=True)
class Plan:
    """How a launch divides the pixels of a batch and the classes; `_triton` tells what a group is."""

    group: int
    """Images whose pixels are counted through."""
    groups: int
    tiles: int
    """Tiles of pixels in a group."""
    slots: int
    """Images that a tile may touch."""
    whole: bool
    """Whether no image lies in two tiles: its sums are then its GAP."""
    parts: int
    """Programs for the classes of a tile."""
    blocks: int
    """Blocks of classes of each program."""
    block_pixels: int
    block_classes: int

    @property
    def programs(self) -> int:
        """The programs of the product's launch."""
        return self.groups * self.tiles * self.parts


def classes_of_a_part(batch: int, pixels: int, classes: int) -> int:
    """Classes whose taps are summed before they are stored: all, or as few as it takes to fill a card.

    It does not depend on the card or its configuration: the size of the partial taps follows from it.
    """
    tiles = batch * _ceil(pixels, TILE_PIXELS)
    span = max(16, _power(classes))
    while span > FEWEST_CLASSES and tiles * _ceil(classes, span) < ENOUGH_PROGRAMS:
        span //= 2
    return span


def parts(batch: int, pixels: int, classes: int) -> int:
    """Partial sums of each tap."""
    return _ceil(classes, classes_of_a_part(batch, pixels, classes))


def make_plan(batch: int, pixels: int, classes: int, configuration: Mapping[str, int]) -> Plan:
    """The division of a batch of images of one size."""
    span = classes_of_a_part(batch, pixels, classes)
    count = _ceil(classes, span)
    block_classes = min(configuration["block_classes"], span)
    block = configuration["block_pixels"]
    # tiles across images have no idle pixels, tiles within one are more
    group = max(1, min(batch, MOST_PIXELS // pixels))
    if _ceil(batch, group) * _ceil(group * pixels, block) * count < ENOUGH_PROGRAMS:
        group = 1
    slots = 1 if group == 1 else _ceil(block, pixels) + (block % pixels != 0 and pixels % block != 0)
    return Plan(
        group=group,
        groups=_ceil(batch, group),
        tiles=_ceil(group * pixels, block),
        slots=slots,
        whole=pixels <= block if group == 1 else block % pixels == 0,
        parts=count,
        blocks=_ceil(min(span, classes), block_classes),
        block_pixels=block,
        block_classes=block_classes,
    )


def _ceil(n: int, d: int) -> int:
    return -(-n // d)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
