from collections.abc import Mapping
from dataclasses import replace

from abn_fast.kernels.attention_gate._plan import ENOUGH_PROGRAMS, Plan
from abn_fast.kernels.attention_gate._plan import make_plan as make_gate_plan

MOST_PIXELS = 1024
"""Of a map that a program holds whole."""


def make_plan(
    batch: int, channels: int, pixels: int, itemsize: int, channels_last: bool, configuration: Mapping[str, int]
) -> Plan:
    """The division of `attention_gate`, with no more splits than fill a card: each reads the taps of its pixels."""
    plan = make_gate_plan(batch, channels, pixels, 1, itemsize, channels_last, False, configuration)
    blocks = _ceil(plan.a, plan.block_a)
    splits = min(blocks, max(1, _ceil(ENOUGH_PROGRAMS, max(1, batch * plan.tiles))))
    chunks = _ceil(blocks, splits)
    return replace(plan, splits=_ceil(blocks, chunks), chunks=chunks)


def block_of_map(plan: Plan, pixels: int) -> int:
    """Pixels of the map that a program holds for all channels of a run; 0 where it has a pixel for each of its b."""
    return _power(pixels) if plan.b > pixels and plan.tiles == 1 and pixels <= MOST_PIXELS else 0


def _ceil(n: int, d: int) -> int:
    return -(-n // d)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
