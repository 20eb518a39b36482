"""Reads machine code as text: NVIDIA's, which cuobjdump prints, and AMD's, which Triton keeps."""

import re
from collections import Counter
from typing import NamedTuple

MEMORY = {"LDG", "STG", "LDGSTS"}
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;\n]*);", re.M)
_AMD_LABEL = re.compile(r"^(\.L\w+):")
_AMD_INSTRUCTION = re.compile(r"^\t([a-z]\w+)(.*)")
_AMD_MEMORY = re.compile(
    r"(?:global|buffer|flat)_(?:load|store)_(?:lds_)?(?:[us](?=byte|short))?(byte|short|dword)(?:x(\d))?"
)
_AMD_BITS = {"byte": 8, "short": 16, "dword": 32}


class Instruction(NamedTuple):
    """One instruction, its name with modifiers: LDG.E.128."""

    address: int
    name: str
    target: int | None
    """Where a branch goes."""


def parse(text: str) -> list[Instruction]:
    """The instructions of the first function in what `cuobjdump -sass` prints."""
    found = []
    for address, name, operands in _INSTRUCTION.findall(text):
        places = re.findall(r"0x[0-9a-f]+", operands) if name.startswith("BRA") else []
        found.append(Instruction(int(address, 16), name, int(places[-1], 16) if places else None))
    return found


def parse_amd(text: str) -> list[Instruction]:
    """The instructions in AMD's assembly; the lines are the addresses."""
    lines = text.splitlines()
    labels = {label[1]: i for i, line in enumerate(lines) if (label := _AMD_LABEL.match(line))}
    found = []
    for i, line in enumerate(lines):
        if instruction := _AMD_INSTRUCTION.match(line):
            name, operands = instruction.groups()
            target = labels.get(operands.strip()) if name.startswith(("s_branch", "s_cbranch")) else None
            found.append(Instruction(i, name, target))
    return found


def split_at_main_loop(code: list[Instruction]) -> tuple[Counter[str], Counter[str]]:
    """Names in the main loop, by their number, and names outside of it.

    A loop is what a backward branch encloses. The main loop is the innermost of those that move the most bytes a turn.
    Without a loop that touches memory, all is outside.
    """
    loops = [
        [each for each in code if branch.target <= each.address <= branch.address]
        for branch in code
        if branch.target is not None and branch.target < branch.address
    ]
    innermost = [loop for loop in loops if not any(len(other) < len(loop) and _within(other, loop) for other in loops)]
    main = max(innermost, key=_bytes, default=[])
    if not _bytes(main):
        main = []
    inside = Counter(each.name for each in main)
    return inside, Counter(each.name for each in code) - inside


def moved_bits(name: str) -> int:
    """Bits that an instruction loads from or stores to global memory, a thread; 0 for other instructions."""
    parts = name.split(".")
    if parts[0] in MEMORY:
        sizes = [int(size) for part in parts[1:] if (size := part.lstrip("US")) in ("8", "16", "64", "128", "256")]
        return sizes[0] if sizes else 32
    amd = _AMD_MEMORY.match(name)
    return _AMD_BITS[amd[1]] * int(amd[2] or 1) if amd else 0


def vector_bits(names: Counter[str], stores: bool, wanted: int, others: int) -> int:
    """The widest vectors in which, or in wider ones, some arguments are loaded or stored; 0 if they are not.

    The program moves `wanted` bytes of them a thread, and of its other arguments `others`. The machine code may do with
    less, but not half: lanes that are always idle are gone, blocks are powers of two.
    """
    moved: Counter[int] = Counter()
    for name, count in names.items():
        if _stores(name) == stores:
            moved[moved_bits(name)] += count * moved_bits(name)
    needed = max(4 * wanted, min(8 * wanted, moved.total() - 8 * others))
    wider = 0
    for bits in sorted(moved, reverse=True):
        wider += moved[bits]
        if bits and wider >= needed:
            return bits
    return 0


def _stores(name: str) -> bool:
    return name.startswith("STG") or "_store_" in name


def _within(inner: list[Instruction], outer: list[Instruction]) -> bool:
    inside = outer[0].address <= inner[0].address and inner[-1].address <= outer[-1].address
    return inside and _bytes(inner) > 0


def _bytes(loop: list[Instruction]) -> int:
    return sum(moved_bits(each.name) for each in loop)
