"""Compiles kernels ahead of time, for GPUs that are not there, as their launcher would have them compiled."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from abn_fast.kernels._runtime import Launch

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
ATOMICS = {"ATOM", "ATOMG", "ATOMS", "RED", "REDG"}
LOCAL_MEMORY = {"LDL", "STL"}


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel."""

    registers: int
    stack: int
    shared: int
    instructions: list[str]
    """Names with their modifiers, LDG.E.128."""

    def uses(self, names: set[str]) -> set[str]:
        """Those of the names, without modifiers, that occur."""
        return names & {name.partition(".")[0] for name in self.instructions}

    def count_of(self, name: str, bits: int) -> int:
        """Instructions of that name and width."""
        return sum(parts[0] == name and str(bits) in parts for parts in (each.split(".") for each in self.instructions))


def compile_launch(launch: Launch, target: GPUTarget) -> Any:
    """Compile what Triton's own launch code makes of the arguments: types, divisibility, constants."""
    backend, kernel = make_backend(target), launch.kernel
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, _ = bind(*launch.arguments, **launch.constants)
    options, signature, constants, attributes = kernel._pack_args(
        backend, launch.constants, bound, specialization, launch.constants
    )
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options.__dict__)


def disassemble(compiled: Any, folder: Path) -> MachineCode:
    """Read the machine code of a kernel for NVIDIA."""
    file = folder / f"{os.urandom(8).hex()}.cubin"
    file.write_bytes(compiled.asm["cubin"])
    usage, code = (_dump(option, file) for option in ("-res-usage", "-sass"))
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage)
    assert found is not None, usage
    registers, stack, shared = map(int, found.groups())
    instructions = re.findall(r"^\s+/\*\w{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code, re.M)
    assert "EXIT" in instructions, code
    return MachineCode(registers, stack, shared, instructions)


def _dump(option: str, file: Path) -> str:
    done = subprocess.run([CUOBJDUMP, option, file], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
