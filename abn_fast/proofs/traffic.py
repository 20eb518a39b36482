"""Bytes that the ops move through device memory, measured in Triton's interpreter.

What is counted:

- every load and store of a kernel, as requested: one instruction that asks twice for an element counts it twice;
- reads of per-channel vectors and of map weights, once a launch: their values stay in the caches. Such a tensor has at
  most 9 numbers for each channel of the largest 4-D argument of the launch, and no row for each image;
- every torch op around the kernels: what it reads and what it writes, once each. So a hidden copy is seen;
- matrix products, whose operands come again and again from the caches, like torch's: each sector that they read once.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import gcd
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime import interpreter

from abn_fast.kernels import _runtime
from abn_fast.kernels._runtime import Launch
from abn_fast.proofs._products import WithoutProducts
from abn_fast.proofs._torch_traffic import TorchTraffic
from abn_fast.proofs.cases import CIFAR, FORMATS, IMAGENET, Case, cases
from abn_fast.proofs.interpreted import interpreted

SECTOR = 32
"""Bytes that device memory delivers at least."""
SECTOR_USE = 0.9
"""Share of the bytes of touched sectors that must have been asked for."""
PROGRAMS = 128
"""Fewer leave multiprocessors idle."""
FEATURE_SIZED = 0.25
"""Share of the elements of the op's largest tensor from which on a launch must fill the card."""
VECTOR_NUMBERS = 9
"""Numbers for each channel in the largest per-channel tensor: the weights of the map convolution."""

PRODUCTS = ("class_evidence_inference.evidence_kernel", "norm_class_conv.input_gradient_kernel")
"""The kernels that are matrix products."""
FUSED = PRODUCTS[:1]
"""Those whose result goes to other sums instead of to memory."""

Row = dict[str, Any]


def rows(ops: Sequence[str] | None = None) -> list[Row]:
    """Bytes over the floor of every op, forward and backward, at batch 32, in both layouts; ops by name, or all."""
    found: list[Row] = interpreted(f"{__name__}:measure", ops)
    return found


def measure(ops: Sequence[str] | None = None) -> list[Row]:
    """`rows`, in a process where Triton interprets."""
    return [
        row
        for case in cases()
        if case.size in (IMAGENET, CIFAR) and (ops is None or case.op in ops)
        for dtype in (torch.float16, torch.float32)
        for memory_format in FORMATS
        for row in rows_of(case, dtype, memory_format)
    ]


def rows_of(case: Case, dtype: torch.dtype, memory_format: torch.memory_format) -> list[Row]:
    """Of one case, a row for each direction."""
    inputs = case.inputs(dtype, memory_format, torch.zeros)
    with Traffic(images=case.size.batch) as forward:
        outputs = case.call(inputs)
    traffic = {"forward": forward}
    if "backward" in case.directions:
        differentiable = [y for y in outputs if y.requires_grad]
        projections = [torch.zeros_like(y) for y in differentiable]
        with Traffic(images=case.size.batch) as traffic["backward"]:
            torch.autograd.grad(differentiable, inputs, projections, allow_unused=True)
    found = [_row(case, direction, dtype, memory_format, counted) for direction, counted in traffic.items()]
    for launch in forward.launches:
        if launch.kernel in FUSED:
            found.append(found[0] | _requested(case, dtype, launch))
    return found


def _row(case: Case, direction: str, dtype: torch.dtype, memory_format: torch.memory_format, traffic: "Traffic") -> Row:
    moved, floor, limit = traffic.moved_bytes, case.floor(direction, dtype), case.limit(dtype)
    within = limit is None or moved <= limit * floor
    filled = traffic.programs is None or traffic.programs >= PROGRAMS
    return {
        "op": case.op,
        "direction": direction,
        "case": str(case.size),
        "dtype": str(dtype).removeprefix("torch."),
        "layout": "channels_last" if memory_format == torch.channels_last else "contiguous",
        "counts": "unique" if any(launch.kernel in PRODUCTS for launch in traffic.launches) else "requested",
        "bytes": moved,
        "floor": floor,
        "ratio": round(moved / floor, 4),
        "limit": limit,
        "sector_use": round(traffic.sector_use, 4),
        "programs": traffic.programs,
        "ok": within and filled and traffic.sector_use >= SECTOR_USE,
    }


def _requested(case: Case, dtype: torch.dtype, launch: "LaunchTraffic") -> Row:
    """What the fused product asks the caches for, at most as a plain one of the same tiles that stores its result."""
    size, floor = case.size, case.floor("forward", dtype)
    operands = size.batch * size.pixels * size.stage_channels, size.classes * size.stage_channels
    tiles_of_classes = -(-size.classes // launch.constants["BLOCK_CLASSES"])
    tiles_of_pixels = size.batch * -(-size.pixels // launch.constants["BLOCK_PIXELS"])
    result = size.batch * size.pixels * size.classes
    plain = dtype.itemsize * (operands[0] * tiles_of_classes + operands[1] * tiles_of_pixels + result)
    return {
        "counts": "requested",
        "bytes": launch.bytes,
        "ratio": round(launch.bytes / floor, 4),
        "limit": round(plain / floor, 4),
        "ok": launch.bytes <= plain,
    }


@dataclass
class LaunchTraffic:
    """What one launch moved."""

    kernel: str
    """The op's folder and the function."""
    programs: int
    constants: dict[str, Any]
    elements: int
    """Of its largest tensor."""
    bytes: int = 0
    """As requested, vectors once."""
    unique_bytes: int = 0
    """Each sector once for reads, and all writes."""
    vector_bytes: int = 0
    """Of both, those of per-channel vectors and map weights."""
    sector_bytes: int = 0
    """Of the sectors that each instruction touched, without those of vectors."""

    @property
    def moved_bytes(self) -> int:
        """`unique_bytes` of a matrix product, else `bytes`."""
        return self.unique_bytes if self.kernel in PRODUCTS else self.bytes


class Traffic:
    """Counts, inside `with Traffic() as traffic:`, what interpreted kernels and the torch ops around them move.

    A load or store outside of the launch's tensors fails.

    Args:
        images: where given, nothing is computed, results are arbitrary, and of a launch only the programs of the first
            and of the last image run. They count for all images where the two ask for as many bytes, and of each tensor
            for the same or for two disjoint parts; else all programs run. Programs that do not divide by the number of
            images divide into as many parts as the two numbers have in common.
    """

    def __init__(self, images: int | None = None) -> None:
        self.launches: list[LaunchTraffic] = []
        self._torch = TorchTraffic()
        self._images = images
        self._launch: _Programs

    def __enter__(self) -> "Traffic":
        self._undo = ExitStack()
        self._undo.enter_context(_runtime.redirect(self._count))
        if self._images is not None:
            self._undo.enter_context(WithoutProducts())
        self._undo.enter_context(self._torch)
        builder = interpreter.InterpreterBuilder
        load_values, store_values = builder.create_masked_load, builder.create_masked_store
        program_id, dry = builder.create_get_program_id, self._images is not None

        def load(this: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
            self._launch.add(pointers, mask, reads=True)
            if not dry:
                return load_values(this, pointers, mask, *rest, **named)
            dtype = pointers.get_element_ty()
            zeros = np.zeros(pointers.data.shape, interpreter._get_np_dtype(dtype))
            return interpreter.TensorHandle(zeros, dtype)

        def store(this: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self._launch.add(pointers, mask, reads=False)
            return None if dry else store_values(this, pointers, value, mask, *rest)

        def shifted_program_id(this: Any, axis: int) -> Any:
            program = program_id(this, axis)
            return interpreter.TensorHandle(program.data + np.int32(self._launch.first), program.dtype)

        self._replace("create_masked_load", load)
        self._replace("create_masked_store", store)
        self._replace("create_get_program_id", shifted_program_id)
        self._replace("create_atomic_rmw", _refuse_atomics)
        self._replace("create_atomic_cas", _refuse_atomics)
        if dry:
            self._replace("create_dot", lambda this, a, b, d, *rest: d)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def bytes(self) -> int:
        """Of all launches and torch ops, as requested, vectors once a launch."""
        return sum(launch.bytes for launch in self.launches) + sum(self.torch_bytes.values())

    @property
    def unique_bytes(self) -> int:
        """Of all launches and torch ops, each sector once a launch for reads, and all writes."""
        return sum(launch.unique_bytes for launch in self.launches) + sum(self.torch_bytes.values())

    @property
    def moved_bytes(self) -> int:
        """`bytes`, of matrix products `unique_bytes`."""
        return sum(launch.moved_bytes for launch in self.launches) + sum(self.torch_bytes.values())

    @property
    def torch_bytes(self) -> dict[str, int]:
        """Of torch ops, by name."""
        return self._torch.bytes

    @property
    def sector_use(self) -> float:
        """Bytes requested over the bytes of the sectors touched, of all launches; vectors left out."""
        touched = sum(launch.sector_bytes for launch in self.launches)
        return sum(launch.bytes - launch.vector_bytes for launch in self.launches) / touched if touched else 1.0

    @property
    def programs(self) -> int | None:
        """The fewest programs of a launch that touches a feature-sized tensor; None without such a launch."""
        largest = max([self._torch.largest, *(each.elements for each in self.launches)])
        return min((each.programs for each in self.launches if each.elements >= FEATURE_SIZED * largest), default=None)

    def _replace(self, name: str, function: Any) -> None:
        builder = interpreter.InterpreterBuilder
        self._undo.callback(setattr, builder, name, getattr(builder, name))
        setattr(builder, name, function)

    def _count(self, launch: Launch) -> None:
        programs = launch.programs
        parts = gcd(self._images or 1, programs)
        if parts < 3 or programs == 0:
            self._add(launch, [self._run(launch, 0, programs)], 1)
            return
        each = programs // parts
        first, last = self._run(launch, 0, each), self._run(launch, programs - each, each)
        if first.is_like(last):
            self._add(launch, [first, last], parts / 2)
        else:
            self._add(launch, [first, self._run(launch, each, programs - 2 * each), last], 1)

    def _run(self, launch: Launch, first: int, programs: int) -> "_Programs":
        self._launch = _Programs(launch, first)
        with _disable_current_modes():
            _runtime.run(launch._replace(programs=programs))
        return self._launch

    def _add(self, launch: Launch, counted: "Sequence[_Programs]", scale: float) -> None:
        read = vectors = 0
        for pieces in zip(*(each.arguments for each in counted), strict=True):
            sectors = np.logical_or.reduce([piece.read for piece in pieces])
            count, is_vector = SECTOR * int(np.count_nonzero(sectors)), pieces[0].is_vector
            if scale > 1 and not np.array_equal(pieces[0].read, pieces[1].read):
                count = SECTOR * sectors.size if is_vector else round(scale * count)
            read += count
            vectors += count if is_vector else 0
        requested, sector_bytes, written = (
            round(scale * sum(getattr(each, name) for each in counted))
            for name in ("requested", "sector_bytes", "written")
        )
        self.launches.append(
            LaunchTraffic(
                kernel=launch.name,
                programs=launch.programs,
                constants=launch.constants,
                elements=max(x.numel() for x in _tensors(launch).values()),
                bytes=requested + vectors,
                unique_bytes=read + written,
                vector_bytes=vectors,
                sector_bytes=sector_bytes,
            )
        )


@dataclass
class _Argument:
    """A tensor of a launch, by its addresses."""

    name: str
    start: int
    stop: int
    is_vector: bool
    read: Any = field(init=False)
    """Whether each of its sectors was read."""

    def __post_init__(self) -> None:
        self.read = np.zeros((self.stop - 1) // SECTOR - self.start // SECTOR + 1, bool)


class _Programs:
    """What some programs of a launch asked for; vectors only by sector."""

    def __init__(self, launch: Launch, first: int) -> None:
        self.kernel = launch.name
        self.first = first
        self.requested = self.sector_bytes = self.written = 0
        self.arguments = _arguments(launch)

    def is_like(self, other: "_Programs") -> bool:
        """Whether both asked for as many bytes, and of each tensor for the same sectors or for sectors of their own."""
        same = (self.requested, self.written) == (other.requested, other.written)
        return same and all(
            a.is_vector or np.array_equal(a.read, b.read) or np.count_nonzero(a.read & b.read) <= 1
            for a, b in zip(self.arguments, other.arguments, strict=True)
        )

    def add(self, pointers: Any, mask: Any, reads: bool) -> None:
        """Count one instruction."""
        addresses = pointers.data[np.broadcast_to(np.asarray(mask.data, bool), pointers.data.shape)]
        if not addresses.size:
            return
        itemsize = max(8, pointers.get_element_ty().primitive_bitwidth) // 8
        lowest, highest = int(addresses.min()), int(addresses.max())
        argument = self._argument_at(lowest, highest + itemsize)
        first = argument.start // SECTOR
        touched = np.zeros(highest // SECTOR - lowest // SECTOR + 1, bool)
        touched[addresses // np.uint64(SECTOR) - np.uint64(lowest // SECTOR)] = True
        if reads:
            argument.read[lowest // SECTOR - first : highest // SECTOR - first + 1] |= touched
        if not (reads and argument.is_vector):
            requested = addresses.size * itemsize
            self.requested += requested
            self.written += 0 if reads else requested
            self.sector_bytes += SECTOR * int(np.count_nonzero(touched))

    def _argument_at(self, start: int, stop: int) -> _Argument:
        for argument in self.arguments:
            if argument.start <= start and stop <= argument.stop:
                return argument
        places = ", ".join(f"{argument.name} {argument.start}..{argument.stop}" for argument in self.arguments)
        raise IndexError(f"{self.kernel} reaches for bytes {start}..{stop}; its tensors are {places}")


def _tensors(launch: Launch) -> dict[str, Tensor]:
    given = zip(launch.kernel.arg_names, launch.arguments, strict=False)
    bases = {name: getattr(value, "base", value) for name, value in given}  # of a tensor descriptor
    return {name: x for name, x in bases.items() if isinstance(x, Tensor)}


def _arguments(launch: Launch) -> list[_Argument]:
    tensors = {name: x for name, x in _tensors(launch).items() if x.numel()}
    images = max((x for x in tensors.values() if x.ndim == 4), key=Tensor.numel, default=None)
    return [
        _Argument(
            name,
            start=x.data_ptr(),
            stop=x.data_ptr() + _span(x) * x.element_size(),
            is_vector=images is not None and _is_vector(x, images),
        )
        for name, x in tensors.items()
    ]


def _is_vector(x: Tensor, images: Tensor) -> bool:
    batch, channels = images.shape[:2]
    return x.numel() <= VECTOR_NUMBERS * channels and x.shape[:1] != (batch,)


def _span(x: Tensor) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))


def _refuse_atomics(*_: Any) -> None:
    raise AssertionError("an atomic: its result depends on the order of the programs")
