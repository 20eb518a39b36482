from dataclasses import dataclass

from abn_fast.kernels.batch_statistics._plan import MOST_ROWS, block_of_channels, block_of_rows, ceil, power


@dataclass(frozen=True)
class Plan:
    """How a launch divides images: blocks of block_c channels, each in chunks of block_p pixels by one program."""

    block_c: int
    block_p: int
    width: int
    """Pixels of a tile that few lanes share; 1 in channels_last."""
    blocks: int
    chunks: int


def make_plan(batch: int, channels: int, pixels: int, itemsize: int, channels_last: bool, tile: int) -> Plan:
    """Tiles of `tile` elements; fewer where programs would be few."""
    if channels_last:
        block_c = block_of_channels(channels, itemsize, batch)
        block_p, width = min(power(pixels), MOST_ROWS, max(1, tile // block_c)), 1
    else:
        block_c, block_p, width = block_of_rows(channels, pixels, itemsize, tile, batch)
    return Plan(block_c, block_p, width, ceil(channels, block_c), ceil(pixels, block_p))
