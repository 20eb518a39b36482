"""The proof by machine code: every kernel, as every target would run it."""

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from tqdm import tqdm

from abn_fast.kernels import _tuning, _tuning_file
from abn_fast.proofs.cases import DTYPES, FORMATS, IMAGENET, Case, cases
from abn_fast.proofs.compilations import compile_all
from abn_fast.proofs.devices import ARCHITECTURES, TARGETS
from abn_fast.proofs.machine_code import ATOMICS, LOCAL_MEMORY, MachineCode
from abn_fast.proofs.recorded import Recorded, recorded

OTHER_BATCHES = (1, 256)
"""At which launches of ResNet-50 are compiled too, where they are configured in another way; the second: inference."""
TENSOR_CORES = ("HMMA", "HGMMA", "UTCHMMA", "UTCQMMA", "IMMA", "DMMA", "v_mfma")
TENSOR_MEMORY = {"ATOMS.AND", "ATOMS.OR"}
"""How sm_100 allocates its tensor memory: bits of a mask, whose order changes no result."""
FUSED_PRODUCT = "evidence_kernel"
GEMM_INSTRUCTIONS = {"sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx90a": "v_mfma", "gfx942": "v_mfma"}
"""What the fused GEMM must use in 16 bits; HMMA elsewhere."""

Row = dict[str, Any]


def rows(targets: Sequence[str] = TARGETS, ops: Collection[str] | None = None, jobs: int = 1) -> list[Row]:
    """A row for each kernel that differs: what it was compiled to, `ok`, and what is wrong in `problems`."""
    launches: dict[str, Recorded] = {}
    seen: set[str] = set()
    wanted = list(_cases(ops))
    unused = _configurations(targets, {case.op.partition(" ")[0] for case in wanted})
    for target in tqdm(targets, "launches recorded"):
        for case, dtype, memory_format in product(wanted, DTYPES, FORMATS):
            if has(target, dtype):
                with _tuning.requests() as requests:
                    for each in recorded(case, dtype, memory_format, target):
                        configured = json.dumps([each.names | {"case": ""}, each.configuration])
                        key = configured + each.source.kernel.hash()
                        if case.size.batch not in OTHER_BATCHES or configured not in seen:
                            launches.setdefault(key, each)
                        seen.add(configured)
                for request in requests:
                    unused.discard(_chosen(request))
    found = list(launches.values())
    codes = compile_all([each.source for each in found], jobs)
    return [_row(each, code) for each, code in zip(found, codes, strict=True)] + [_unused_row(each) for each in unused]


def has(target: str, dtype: torch.dtype) -> bool:
    """Whether the architecture computes in the dtype."""
    return dtype != torch.bfloat16 or target != "sm_75"


def problems(launch: Recorded, code: MachineCode) -> list[str]:
    """What is wrong with the machine code of a launch."""
    found = []
    if code.stack or code.uses(LOCAL_MEMORY):
        found.append(f"spills {code.stack} bytes")
    if atomics := _atomics(code):
        found.append(f"not deterministic: {', '.join(atomics)}")
    allowed = ARCHITECTURES[launch.target].block_shared
    if code.shared > allowed:
        found.append(f"{code.shared} bytes of shared memory; the card has {allowed}")
    bits, needed = code.vector_bits(launch.row_bytes), needed_bits(launch)
    if bits is not None and bits < needed:
        found.append(f"features move in {bits} bits; expected {needed}")
    if launch.kernel == FUSED_PRODUCT:
        found += _problems_of_product(launch, code)
    if launch.dtype == torch.float32 and any("TF32" in name for name in code.instructions) and not _asks_tf32x3(launch):
        found.append("TF32 in float32")
    return found


def _problems_of_product(launch: Recorded, code: MachineCode) -> list[str]:
    if launch.target == "sm_75":
        return ["a fused product where the compiler has no tensor cores"]
    name = GEMM_INSTRUCTIONS.get(launch.target, "HMMA")
    lacks = launch.dtype.itemsize == 2 and not any(each.startswith(name) for each in code.instructions)
    return [f"no {name}"] if lacks else []


def needed_bits(launch: Recorded) -> int:
    """Bits in which features must move at least: 128 at the gate, else 64 where their rows allow."""
    if "gate" in launch.case.op:
        return 128
    return 64 if all(row % 8 == 0 for row in launch.row_bytes.values()) else 16


def _cases(ops: Collection[str] | None) -> Iterator[Case]:
    for case in cases():
        if ops is None or case.op.partition(" ")[0] in ops:
            yield case
            if case.size == IMAGENET:
                batches = OTHER_BATCHES if case.op.endswith("_inference") else OTHER_BATCHES[:1]
                yield from (case.at(case.size._replace(batch=batch)) for batch in batches)


def _configurations(targets: Sequence[str], ops: Collection[str]) -> set[tuple[str, int]]:
    """Kernel and number of each shipped row of configurations; none unless all targets may use them."""
    if set(targets) != set(TARGETS):
        return set()
    return {
        (row["kernel"], number)
        for op in set(ops) & set(_tuning_file.ops())
        for number, row in enumerate(_tuning_file.shipped_rows(op))
        if row.get("architecture", TARGETS[0]) in TARGETS
    }


def _chosen(request: _tuning.Request) -> tuple[str, int]:
    rows = _tuning_file.shipped_rows(request.kernel.partition(".")[0])
    return request.kernel, next(number for number, row in enumerate(rows) if _tuning._fits(row, request))


def _row(launch: Recorded, code: MachineCode) -> Row:
    wrong = problems(launch, code)
    return {
        **launch.names,
        "config": launch.configuration,
        "registers": code.registers,
        "spills": code.stack,
        "shared": code.shared,
        "occupancy": round(ARCHITECTURES[launch.target].occupancy(code.registers, code.shared, code.warps), 3),
        "vector_bits": code.vector_bits(launch.row_bytes),
        "tensor_core": sorted({name for name in code.instructions if name.startswith(TENSOR_CORES)}),
        "ok": not wrong,
        "problems": wrong,
    }


def _unused_row(configuration: tuple[str, int]) -> Row:
    kernel, number = configuration
    op, _, name = kernel.partition(".")
    row = _tuning_file.shipped_rows(op)[number]
    names = dict.fromkeys(("direction", "target", "dtype", "layout", "case"), "-")
    facts: Row = {"registers": 0, "spills": 0, "shared": 0, "occupancy": 0.0, "vector_bits": None, "tensor_core": []}
    problem = f"no case uses row {number + 1} of tuning.json"
    return {"op": op, "kernel": name, **names, "config": row, **facts, "ok": False, "problems": [problem]}


def _atomics(code: MachineCode) -> list[str]:
    found = {name for name in code.instructions if name.partition(".")[0] in ATOMICS or "_atomic" in name}
    if any(name.startswith("UTC") for name in code.instructions):
        found -= TENSOR_MEMORY
    return sorted(found)


def _asks_tf32x3(launch: Recorded) -> bool:
    return "tf32x3" in map(str, launch.source.kernel.constants.values())
