"""What bounds each kernel on each card: computed from its machine code and published rates, not measured."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from abn_fast.proofs.cases import FORMATS, IMAGENET, Case, cases
from abn_fast.proofs.compilations import compile_all
from abn_fast.proofs.devices import ARCHITECTURES, CARDS, Card
from abn_fast.proofs.lanes import Wanted, feature_lanes
from abn_fast.proofs.machine_code import MachineCode
from abn_fast.proofs.recorded import Recorded, recorded
from abn_fast.proofs.sass import moved_bits

BATCHES = (1, 32, 256)
DTYPES = (torch.float16, torch.float32)
SPECIAL = ("MUFU", "I2F", "F2I", "F2F")
"""Instructions of the special-function lanes."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What all warps of a launch execute."""

    instructions: float
    special: float
    tensor: float
    """Operations of the tensor cores."""


def rows(cards: Sequence[Card] = CARDS, ops: Collection[str] | None = None, jobs: int = 1) -> list[Row]:
    """A row for each launch of features at ResNet-50's sizes: its bounds in microseconds; and `ok`."""
    launches = _launches(sorted({card.target for card in cards}), ops)
    lanes = feature_lanes([wanted for wanted, _ in launches])
    codes = iter(compile_all([each.source for _, made in launches for each in made if each.row_bytes], jobs))
    found = []
    for (_, made), counted in zip(launches, lanes, strict=True):
        for launch, lane_bytes in zip(made, counted, strict=True):
            if launch.row_bytes:
                code, number = next(codes), sum(each.direction == launch.direction for each in made)
                on = [card for card in cards if card.target == launch.target]
                found += [_row(card, launch, number, code, lane_bytes) for card in on]
    return found


def work(code: MachineCode, programs: int, lane_bytes: float, vector_bits: int) -> Work:
    """Instructions of a launch: the main loop as often as its loads and stores of features take.

    The lanes of a program, idle ones included, move `lane_bytes` of features, by instructions of `vector_bits` or more.
    What a loop around the main loop does besides, a product's epilogue for each block of classes, counts once.
    """
    threads = 32 * code.warps
    turn, once = _moved(code.loop, vector_bits) * threads, _moved(code.rest, vector_bits) * threads
    turns = max(1.0, (lane_bytes - once) / turn) if turn else 1.0
    warps = programs * code.warps
    names = {name: code.rest[name] + turns * code.loop[name] for name in code.instructions}
    return Work(
        instructions=warps * sum(names.values()),
        special=warps * sum(count for name, count in names.items() if name.startswith(SPECIAL)),
        tensor=warps * sum(count * tensor_operations(name) for name, count in names.items()),
    )


def tensor_operations(name: str) -> int:
    """Multiplications and additions of a tensor-core instruction, a warp."""
    if found := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)", name):
        m, n, k = map(int, found.groups())
        return 2 * m * n * k // 4  # four warps share it
    if found := re.match(r"HMMA\.(16)(8)(16|8|4)", name):
        m, n, k = map(int, found.groups())
        return 2 * m * n * k
    return 0


def bytes_in_flight(card: Card, code: MachineCode, programs: int) -> tuple[int, float, float]:
    """Resident warps of a multiprocessor, the bytes that they have under way, and those that Little's law asks for."""
    resident = ARCHITECTURES[card.target].resident_warps(code.registers, code.shared, code.warps)
    warps = min(resident, -(-programs // card.multiprocessors) * code.warps)
    loads = Counter({name: n for name, n in (code.loop or code.rest).items() if name.startswith("LDG")})
    needed = card.latency / card.clock * card.bandwidth / card.multiprocessors
    return warps, warps * 32 * _moved(loads, 8), needed


def limit(launch: Recorded, card: Card) -> float | None:
    """The other bounds over that of memory, at most; None where no limit is set."""
    op = launch.case.op
    if launch.case.size.batch < 32 or op.endswith("_inference"):
        return None
    if "log_map" in op and "statistics" not in launch.kernel:
        return None  # no taps: a logarithm for each number, whose polynomial is 13 instructions
    if op.startswith("class_evidence") and "statistics" not in launch.kernel:
        return 1.0 if launch.dtype == torch.float16 and card.name != "H100" else None
    if op.endswith("norm_class_conv"):  # around products, and one itself
        return 0.6 if launch.kernel == "partial_kernel" else None
    return 0.6


def _launches(targets: Sequence[str], ops: Collection[str] | None) -> list[tuple[Wanted, list[Recorded]]]:
    found = []
    for case, target in tqdm([(case, target) for case in _cases(ops) for target in targets], "roofline"):
        for dtype in DTYPES:
            for memory_format in FORMATS:
                last = memory_format == torch.channels_last
                wanted = (case.op, list(case.size), str(dtype).removeprefix("torch."), last, target)
                found.append((wanted, list(recorded(case, dtype, memory_format, target))))
    return found


def _cases(ops: Collection[str] | None) -> list[Case]:
    wanted = [case for case in cases() if case.size == IMAGENET and (ops is None or case.op.partition(" ")[0] in ops)]
    return [case.at(case.size._replace(batch=batch)) for case in wanted for batch in BATCHES]


def _row(card: Card, launch: Recorded, number: int, code: MachineCode, lane_bytes: float) -> Row:
    done = work(code, launch.programs, lane_bytes, code.vector_bits(launch.row_bytes) or 8)
    warps, in_flight, needed = bytes_in_flight(card, code, launch.programs)
    cycles = card.multiprocessors * card.clock
    rate = card.tensor_16bit if launch.dtype.itemsize == 2 else card.tensor_tf32
    seconds = {
        "memory": launch.bytes / card.bandwidth,
        "issue": done.instructions / (card.issue * cycles),
        "special": 32 * done.special / (card.special * cycles),
        "tensor": done.tensor / rate,
    }
    most = limit(launch, card)
    worst = max(seconds[name] for name in ("issue", "special", "tensor")) / seconds["memory"]
    names = launch.names
    return {
        **{name: names[name] for name in ("op", "kernel", "direction", "dtype", "layout")},
        "card": card.name,
        "batch": launch.case.size.batch,
        "launches": number,
        "programs": launch.programs,
        "bytes": launch.bytes,
        "instructions_per_byte": round(32 * done.instructions / launch.bytes, 3),
        "special_per_byte": round(32 * done.special / launch.bytes, 4),
        **{f"{name}_us": round(1e6 * value, 3) for name, value in seconds.items()},
        "bound": max(seconds, key=lambda name: seconds[name]),
        "worst_over_memory": round(worst, 3),
        "limit": most,
        "warps": warps,
        "bytes_in_flight": in_flight,
        "bytes_needed": round(needed),
        "ok": most is None or worst <= most,
    }


def _moved(names: Counter[str], bits: int) -> int:
    return sum(count * moved_bits(name) // 8 for name, count in names.items() if moved_bits(name) >= bits)
