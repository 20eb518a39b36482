from dataclasses import dataclass
from math import gcd

VECTOR_BYTES = 16
SECTOR_BYTES = 32
LEAST_RUN_BYTES = 512
"""Bytes that follow one another, from which on the sectors shared at both ends are few."""
ENOUGH_PROGRAMS = 128
"""Fewer leave multiprocessors idle."""
OVERHEAD = 0.021
"""Share of x up to which partial sums may be moved for more programs."""
MOST_PIXELS = 1024
"""Of a tile of contiguous images."""
MOST_ROWS = 64
"""Pixels of a tile in channels_last: few are summed one after the other."""


@dataclass(frozen=True)
class Plan:
    """How a launch divides x: blocks of channels, and for each of them splits of so many steps.

    A step is a tile of block_c channels by block_p pixels: of an image in contiguous x, of the batch's rows in
    channels_last.
    """

    block_c: int
    block_p: int
    width: int
    """Pixels of a tile that few lanes share; 1 in channels_last."""
    blocks: int
    chunks: int
    """Steps of an image; 1 in channels_last."""
    total: int
    """Steps of the batch."""
    steps: int
    """Steps of a split."""
    splits: int

    @property
    def programs(self) -> int:
        """The programs of a launch."""
        return self.blocks * self.splits


def make_plan(
    batch: int,
    channels: int,
    pixels: int,
    itemsize: int,
    channels_last: bool,
    tile: int,
    programs: int,
    partial_bytes: int,
) -> Plan:
    """Tiles of `tile` elements for about `programs` programs, each of which moves partial_bytes a channel."""
    affordable = max(1, int(OVERHEAD * batch * pixels * itemsize / partial_bytes)) if partial_bytes else batch * pixels
    if channels_last:
        block_c = block_of_channels(channels, itemsize, affordable)
        block_p, width, chunks = min(MOST_ROWS, max(1, tile // block_c)), 1, 1
        while block_p > 8 and ceil(channels, block_c) * ceil(batch * pixels, block_p) < ENOUGH_PROGRAMS:
            block_p //= 2
        total = ceil(batch * pixels, block_p)
    else:
        block_c, block_p, width = block_of_rows(channels, pixels, itemsize, tile, min(affordable, batch))
        chunks = ceil(pixels, block_p)
        total = batch * chunks
    blocks = ceil(channels, block_c)
    splits = min(total, max(min(affordable, ceil(programs, blocks)), ceil(ENOUGH_PROGRAMS, blocks)))
    steps = ceil(total, splits)
    while steps > 1 and blocks * ceil(total, steps) < ENOUGH_PROGRAMS:
        steps -= 1
    return Plan(block_c, block_p, width, blocks, chunks, total, steps, ceil(total, steps))


def block_of_channels(channels: int, itemsize: int, programs: int) -> int:
    """Channels of a tile in channels_last: whole sectors, so few that so many programs for each block are enough."""
    sector = SECTOR_BYTES // itemsize
    if channels * itemsize % SECTOR_BYTES:
        return min(power(channels), 8 * sector)  # rows that are not aligned share a sector at each end
    block_c = min(power(channels), 4 * sector)
    return _narrow(block_c, min(block_c, sector), channels, programs)


def block_of_rows(channels: int, pixels: int, itemsize: int, tile: int, programs: int) -> tuple[int, int, int]:
    """Channels and pixels of a tile of contiguous images, and the pixels that few lanes share."""
    block_p = min(power(pixels), MOST_PIXELS, tile)
    block_c = min(power(channels), max(1, tile // block_p))
    least = min(block_c, power(ceil(LEAST_RUN_BYTES, pixels * itemsize)))
    width = min(block_p, 8 * gcd(VECTOR_BYTES // itemsize, pixels))
    return _narrow(block_c, least, channels, programs), block_p, width


def _narrow(block_c: int, least: int, channels: int, programs: int) -> int:
    while block_c > least and ceil(channels, block_c) * programs < ENOUGH_PROGRAMS:
        block_c //= 2
    return block_c


def ceil(n: int, d: int) -> int:
    """N / d, rounded up."""
    return -(-n // d)


def power(n: int) -> int:
    """The least power of 2 that is at least n."""
    return 1 << (n - 1).bit_length()
