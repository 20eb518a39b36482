"""Random numbers as a function of their place: no state, so no order, no worker count and no resume changes them.

The mixing function is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014); the same bits come out on every platform and with every version of numpy.
"""

import zlib

import numpy as np
import numpy.typing as npt

_MASK = 2**64 - 1


def random_bits(*key: int | str, rows: npt.ArrayLike, columns: int) -> npt.NDArray[np.uint64]:
    """64 random bits for every (key, row, column), as [len(rows), columns]."""
    state = np.zeros(1, np.uint64)
    for part in key:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part & _MASK
        state = _mix(state ^ np.uint64(number))
    state = _mix(state ^ np.asarray(rows, dtype=np.uint64))
    return _mix(state[:, None] ^ np.arange(columns, dtype=np.uint64))


def uniform(*key: int | str, rows: npt.ArrayLike, columns: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for every (key, row, column), as [len(rows), columns]."""
    return np.ldexp((random_bits(*key, rows=rows, columns=columns) >> np.uint64(11)).astype(np.float64), -53)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
