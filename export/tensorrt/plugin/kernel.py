import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch

from abn_fast._errors import AbnFastError
from abn_fast.export.tensorrt.flavour import number
from abn_fast.export.tensorrt.plugin.layout import GateDivision, GateSpec, divide
from abn_fast.export.tensorrt.plugin.ptx import entry, with_parameters

POINTERS = ("features", "score", "gated", "attention")
NUMBERS = ("splits", "chunks", "pixels")
PARAMETERS = (*POINTERS[:2], *NUMBERS, *POINTERS[2:])
"""In the order in which TensorRT passes them: inputs, numbers, outputs."""
ALIGNMENT = 16
"""Bytes at multiples of which its tensors lie; TensorRT's lie at multiples of 256."""
LAST_PORTABLE = 89
"""PTX that Triton makes for this compute capability runs on all later ones; from sm_90 on, on one alone."""
PTX_VERSION = 80
"""That drivers read from CUDA 12.0 on."""
_TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}


@dataclass(frozen=True)
class CompiledGate:
    """A gate's kernel as PTX, and how to launch it."""

    name: str
    ptx: str
    threads: int
    """Of a program."""
    shared: int
    """Bytes of shared memory of a program."""
    division: GateDivision

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "CompiledGate":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {"division": GateDivision(**values["division"])})


def ptx_target(targets: tuple[str, ...]) -> str:
    """For which compute capability one PTX is made that runs on all of the targets."""
    return f"sm_{min(LAST_PORTABLE, *map(number, targets))}"


@lru_cache(maxsize=64)
def compile_gate(spec: GateSpec, target: str) -> CompiledGate:
    """Compile `kernels.attention_gate` for a GPU that need not be there.

    Raises:
        AbnFastError: Triton is missing or interprets, or its kernel needs what TensorRT does not pass.
    """
    try:
        from triton import compile as compile_kernel
        from triton import knobs
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError:
        raise AbnFastError("the gate's plugin needs Triton, which comes with torch for Linux; leave it out") from None
    if knobs.runtime.interpret:
        raise AbnFastError("the gate's plugin is compiled by Triton, which interprets here: unset TRITON_INTERPRET")
    from abn_fast.export.tensorrt.plugin._triton import gate_kernel

    division = divide(spec, target)
    constants = division.constants(spec)
    dtypes = dict(zip(POINTERS, (spec.dtype, spec.score_dtype) * 2, strict=True))
    signature = {name: _TYPES[dtypes[name]] if name in dtypes else "i32" for name in PARAMETERS}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = {(PARAMETERS.index(name),): [["tt.divisibility", ALIGNMENT]] for name in POINTERS}
    options = {"num_warps": division.warps, "ptx_version": PTX_VERSION}
    with knobs.compilation.scope():
        knobs.compilation.disable_line_info = True  # it names folders of this machine
        compiled = compile_kernel(
            ASTSource(gate_kernel, signature, constants, aligned),
            target=GPUTarget("cuda", number(target), 32),
            options=options,
        )
    metadata = compiled.metadata
    if metadata.global_scratch_size or metadata.profile_scratch_size:
        raise AbnFastError("the gate's kernel needs scratch memory, which no engine gives to it")
    ptx = with_parameters(compiled.asm["ptx"], len(PARAMETERS))
    return CompiledGate(entry(ptx)[0], ptx, 32 * metadata.num_warps, metadata.shared, division)
