"""Reads Triton's GPU dialect as text: which of a kernel's arguments it loads and stores, in tensors of which size."""

import re
from collections import Counter
from math import prod
from typing import NamedTuple

_ACCESS = re.compile(
    r"(?:tt\.(load|store)|amdg\.buffer_(load|store)|ttg\.async_copy_global_to_local|amdg\.buffer_load_to)"
)
_SAME_BASE = re.compile(
    r"^(%\w+) = (?:tt\.(?:addptr|splat|broadcast|expand_dims|bitcast|reshape|trans)|ttg\.convert_layout"
    r"|arith\.select)\b"
)
_TENSOR = re.compile(r"tensor<([\dx]+)x(?:!tt\.ptr<)?[a-z]+(\d+)>?, ((?:#ttg\.slice<\{dim = \d+, parent = )*)(#\w+)")
_BLOCKED = re.compile(
    r"^(#\w+) = #ttg\.blocked<\{sizePerThread = \[([\d, ]+)\], "
    r"threadsPerWarp = \[([\d, ]+)\], warpsPerCTA = \[([\d, ]+)\]"
)


class Accesses(NamedTuple):
    """Bytes that a thread loads and stores where each instruction runs once, by the argument's name."""

    loads: Counter[str]
    stores: Counter[str]


def accesses(text: str) -> Accesses:
    """Those of the kernel; single values are left out."""
    threads = prod(int(n) for n in re.findall(r'"ttg\.(?:num-warps|threads-per-warp)" = (\d+)', text))
    blocked: dict[str, list[tuple[int, ...]]] = {}  # of each axis: values a thread, threads, warps
    bases: dict[str, str] = {}  # of values that point into an argument
    found = Accesses(Counter(), Counter())
    for line in text.splitlines():
        line = line.strip()
        if layout := _BLOCKED.match(line):
            blocked[layout[1]] = list(zip(*(map(int, part.split(",")) for part in layout.groups()[1:]), strict=True))
        elif line.startswith("tt.func public"):
            bases = {name: name[1:] for name in re.findall(r"(%\w+): !tt\.ptr<", line)}
        elif "iter_args(" in line:
            carried = re.findall(r"(%\w+) = (%[\w#]+)", line.partition("iter_args(")[2].partition(") ->")[0])
            results = line.partition(" = ")[0].partition(":")[0]
            for i, (inside, before) in enumerate(carried):
                if before in bases:
                    bases[inside] = bases[f"{results}#{i}"] = bases[results] = bases[before]
        elif same := _SAME_BASE.match(line):
            if base := _base(line.partition(" = ")[2], bases):
                bases[same[1]] = base
            else:
                bases.pop(same[1], None)
        elif access := _ACCESS.search(line):
            tensor = _TENSOR.search(line)
            base = _base(line.partition(access[0])[2], bases)
            if tensor and base:
                shape = [int(n) for n in tensor[1].split("x")]
                axes = _without(blocked.get(tensor[4], []), [int(n) for n in re.findall(r"\d+", tensor[3])])
                elements = _of_a_thread(shape, axes) if axes else -(-prod(shape) // threads)
                kind = found.stores if "store" in access[0] else found.loads
                kind[base] += elements * max(8, int(tensor[2])) // 8
    return found


def _without(axes: list[tuple[int, ...]], sliced: list[int]) -> list[tuple[int, ...]]:
    """The axes that are left of a layout; the innermost slice is the last."""
    left = list(axes)
    for axis in reversed(sliced):
        del left[axis : axis + 1]
    return left


def _of_a_thread(shape: list[int], axes: list[tuple[int, ...]]) -> int:
    """Values that a thread holds, also those that other threads hold too."""
    return prod(values * -(-size // prod((values, *more))) for size, (values, *more) in zip(shape, axes, strict=True))


def _base(operands: str, bases: dict[str, str]) -> str | None:
    return next((bases[name] for name in re.findall(r"%[\w#]+", operands) if name in bases), None)
