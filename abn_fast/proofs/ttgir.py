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
_TENSOR = re.compile(r"tensor<([\dx]+)x(?:!tt\.ptr<)?[a-z]+(\d+)")


class Accesses(NamedTuple):
    """Bytes that a thread loads and stores where each instruction runs once, by the argument's name."""

    loads: Counter[str]
    stores: Counter[str]


def accesses(text: str) -> Accesses:
    """Those of the kernel; single values are left out."""
    threads = prod(int(n) for n in re.findall(r'"ttg\.(?:num-warps|threads-per-warp)" = (\d+)', text))
    bases: dict[str, str] = {}  # of values that point into an argument
    found = Accesses(Counter(), Counter())
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("tt.func public"):
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
                elements = -(-prod(int(n) for n in tensor[1].split("x")) // threads)
                kind = found.stores if "store" in access[0] else found.loads
                kind[base] += elements * max(8, int(tensor[2])) // 8
    return found


def _base(operands: str, bases: dict[str, str]) -> str | None:
    return next((bases[name] for name in re.findall(r"%[\w#]+", operands) if name in bases), None)
