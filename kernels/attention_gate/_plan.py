from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

VECTOR_BYTES = 16
SECTOR_BYTES = 32
LINE_BYTES = 128
ENOUGH_PROGRAMS = 128
"""Fewer leave multiprocessors idle: up to this number, splits are worth what they cost."""
MANY_PROGRAMS = 1024
"""More do not hide more latency."""
OVERHEAD = 0.028
"""Share of the features' traffic up to which maps and partial sums may be moved for more programs."""
WARP_BYTES = 32 * VECTOR_BYTES
"""What a warp loads at once."""


@dataclass(frozen=True)
class Plan:
    """How a launch divides images of A x B elements; `_triton` tells what a and b count."""

    a: int
    b: int
    stride_a: int
    stride_b: int
    block_a: int
    block_b: int
    tiles: int
    """Programs along b."""
    splits: int
    """Programs along a."""
    chunks: int
    """Blocks along a of each program; 1 where there are several maps."""
    warps: int
    """Of 32 lanes."""

    def programs(self, batch: int) -> int:
        """The programs of a launch."""
        return batch * self.tiles * self.splits


def make_plan(
    batch: int,
    channels: int,
    pixels: int,
    maps: int,
    itemsize: int,
    channels_last: bool,
    backward: bool,
    configuration: Mapping[str, int],
) -> Plan:
    """The division of a batch of images. Any is correct; this one balances partial sums and idle hardware.

    The configuration has tile_bytes and num_warps of a program, at most, and block_pixels, its pixels: at most where
    they are contiguous, at least where the channels are.
    """
    tile = configuration["tile_bytes"] // itemsize
    most_warps, block_pixels = configuration["num_warps"], configuration["block_pixels"]
    run = 1  # channels whose pixels together fill whole vectors
    if channels_last:
        a, b, stride_a, stride_b = channels, pixels, 1, channels
        block_b = min(_power(b), max(block_pixels, tile // _power(a)))
        while block_b > 4 and batch * _ceil(b, block_b) < ENOUGH_PROGRAMS:
            block_b //= 2
    else:
        vector = gcd(VECTOR_BYTES // itemsize, channels * pixels)
        run = vector // gcd(pixels, vector)
        a, b = channels // run, run * pixels
        stride_a, stride_b = b, 1
        block_b = _block_of_pixels(batch, b, maps, itemsize, block_pixels)
    block_a = min(_power(a), max(1, tile // block_b))
    tiles = _ceil(b, block_b)
    smallest = max(1, most_warps * WARP_BYTES // (block_b * itemsize))
    while block_a > smallest and batch * tiles * _ceil(a, block_a) < ENOUGH_PROGRAMS:
        block_a //= 2
    blocks = _ceil(a, block_a)
    splits = _splits(batch * tiles, channels, run, itemsize, backward) if maps == 1 else blocks
    chunks = _ceil(blocks, min(blocks, splits))
    return Plan(
        a=a,
        b=b,
        stride_a=stride_a,
        stride_b=stride_b,
        block_a=block_a,
        block_b=block_b,
        tiles=tiles,
        splits=_ceil(blocks, chunks),
        chunks=chunks,
        warps=min(most_warps, max(1, block_a * block_b * itemsize // WARP_BYTES)),
    )


def _block_of_pixels(batch: int, b: int, maps: int, itemsize: int, most: int) -> int:
    line = LINE_BYTES // itemsize
    block = min(_power(b), most)
    if maps > 1:  # sums for every map: many channels a program, few pixels
        return block
    while b * itemsize % SECTOR_BYTES == 0 and block > line and batch * _ceil(b, block) < ENOUGH_PROGRAMS:
        block //= 2
    return block


def _splits(programs: int, channels: int, run: int, itemsize: int, backward: bool) -> int:
    """Programs for the channels of one image and one map."""
    if programs == 0:
        return 1
    # bytes a pixel: features, maps whatever the division, and maps and partial sums (written, read) of each split
    features = (3 if backward else 2) * channels * itemsize
    maps = (4 if backward else 1) * itemsize
    split = (itemsize + (2 * 4 if backward else 0)) * run
    affordable = min(int((OVERHEAD * features - maps) / split), _ceil(MANY_PROGRAMS, programs))
    return max(1, affordable, _ceil(ENOUGH_PROGRAMS, programs))


def _ceil(n: int, d: int) -> int:
    return -(-n // d)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
