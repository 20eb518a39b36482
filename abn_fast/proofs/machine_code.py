"""Compiles kernels ahead of time, for GPUs that are not there, as their launcher would have them compiled."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from abn_fast.kernels._runtime import Launch
from abn_fast.proofs.sass import parse, parse_amd, split_at_main_loop, vector_bits
from abn_fast.proofs.ttgir import accesses

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
ATOMICS = {"ATOM", "ATOMG", "ATOMS", "RED", "REDG"}
LOCAL_MEMORY = {"LDL", "STL"}


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel. Instructions are names with their modifiers, LDG.E.128, and how often they are written."""

    registers: int
    stack: int
    """Bytes of local memory a thread; AMD: of private memory."""
    shared: int
    """Bytes of shared memory a block."""
    warps: int
    loop: Counter[str]
    """Instructions of the main loop."""
    rest: Counter[str]
    """Instructions outside of it."""
    loads: Counter[str]
    """Bytes a thread loads where each instruction runs once, by the kernel's argument."""
    stores: Counter[str]
    """Likewise stored."""

    @property
    def instructions(self) -> Counter[str]:
        """All of them."""
        return self.loop + self.rest

    def uses(self, names: set[str]) -> set[str]:
        """Those of the names, without modifiers, that occur."""
        return names & {name.partition(".")[0] for name in self.instructions}

    def count_of(self, name: str, bits: int) -> int:
        """Instructions of that name and width."""
        parts = ((each.split("."), count) for each, count in self.instructions.items())
        return sum(count for each, count in parts if each[0] == name and str(bits) in each)

    def vector_bits(self, arguments: Collection[str]) -> int | None:
        """Bits of the vectors in which those arguments are loaded and stored, the narrower; None if they are not."""
        widths = [
            vector_bits(self.instructions, stores, wanted, moved.total() - wanted)
            for stores, moved in ((False, self.loads), (True, self.stores))
            if (wanted := sum(moved[name] for name in arguments))
        ]
        return min(widths, default=None)


class Source(NamedTuple):
    """What a launch has compiled for a target; it holds no tensor."""

    kernel: ASTSource
    options: dict[str, Any]
    target: GPUTarget


def gpu_target(name: str) -> GPUTarget:
    """Triton's description of sm_90 or gfx942."""
    return GPUTarget("hip", name, 64) if name.startswith("gfx") else GPUTarget("cuda", int(name[3:]), 32)


def launch_source(launch: Launch, target: GPUTarget) -> Source:
    """What Triton's own launch code makes of the arguments: types, divisibility, constants."""
    backend, kernel = make_backend(target), launch.kernel
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, _ = bind(*launch.arguments, **launch.constants)
    options, signature, constants, attributes = kernel._pack_args(
        backend, launch.constants, bound, specialization, launch.constants
    )
    return Source(ASTSource(kernel, signature, constants, attributes), options.__dict__, target)


def compile_source(source: Source) -> Any:
    """Triton's compiled kernel."""
    return triton.compile(source.kernel, target=source.target, options=source.options)


def compile_launch(launch: Launch, target: GPUTarget) -> Any:
    """Compile a kernel as its launch would on that target."""
    return compile_source(launch_source(launch, target))


def disassemble(compiled: Any, folder: Path) -> MachineCode:
    """Read the machine code of a compiled kernel; the folder is for a temporary file."""
    # the machine code states only what is allocated statically: Triton's shared memory is not
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    moved = accesses(compiled.asm["ttgir"])
    if "amdgcn" in compiled.asm:
        text = compiled.asm["amdgcn"]
        registers, stack, spilled = (
            int(re.findall(rf"\.{name}:\s+(\d+)", text)[-1])
            for name in ("vgpr_count", "private_segment_fixed_size", "vgpr_spill_count")
        )
        return MachineCode(registers, stack + 4 * spilled, shared, warps, *split_at_main_loop(parse_amd(text)), *moved)
    file = folder / f"{os.urandom(8).hex()}.cubin"
    file.write_bytes(compiled.asm["cubin"])
    usage, text = (_dump(option, file) for option in ("-res-usage", "-sass"))
    file.unlink()
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    code = parse(text)
    assert found is not None, usage
    assert any(each.name == "EXIT" for each in code), text
    registers, stack = map(int, found.groups())
    return MachineCode(registers, stack, shared, warps, *split_at_main_loop(code), *moved)


def _dump(option: str, file: Path) -> str:
    done = subprocess.run([CUOBJDUMP, option, file], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
