"""What the proofs call: every public function of abn_fast.kernels, at the sizes they must hold at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abn_fast import kernels
from abn_fast.kernels import reference
from abn_fast.proofs._products import WithoutProducts

EPS = 1e-5
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
FORMATS = (torch.contiguous_format, torch.channels_last)
DIRECTIONS = ("forward", "backward")


class Size(NamedTuple):
    """Sizes of a network's head: images, channels of the features and of the stage output, classes, pixels, maps."""

    batch: int
    channels: int
    stage_channels: int
    classes: int
    height: int
    width: int
    maps: int = 1

    @property
    def pixels(self) -> int:
        """H * W."""
        return self.height * self.width

    def __str__(self) -> str:
        maps = f", T {self.maps}" if self.maps > 1 else ""
        return (
            f"N {self.batch}, C {self.channels}, C' {self.stage_channels}, K {self.classes}, "
            f"{self.height}x{self.width}{maps}"
        )


IMAGENET = Size(32, 1024, 2048, 1000, 14, 14)
"""ResNet-50."""
CIFAR = Size(32, 128, 256, 100, 16, 16)
"""ResNet-110."""
MULTI_TASK = Size(4, 1024, 2048, 1000, 14, 14, maps=40)
"""ResNet-50 with 40 attributes."""


class Kind(Enum):
    """Of which dtype and memory format a tensor is."""

    FEATURES = "the case's dtype and memory format"
    PLAIN = "the case's dtype, contiguous"
    EXACT = "float32 (float64 for float64), contiguous"
    POSITIVE = "as EXACT, a variance"


Shapes = Callable[[Size], list[tuple[Kind, tuple[int, ...]]]]


@dataclass(frozen=True)
class Op:
    """A public function as the proofs call it."""

    call: Callable[..., Any]
    """Of abn_fast.kernels or its reference, then the inputs: what training uses of the outputs."""
    shapes: Shapes
    """Of the inputs."""
    forward: Callable[[Size], int]
    """The floor: elements that any implementation must move."""
    backward: Callable[[Size], int] | None
    """Likewise; None where the op has no backward."""
    limit: Callable[[Size, torch.dtype], float | None] = lambda size, dtype: None
    """Bytes moved over the floor, at most, in both directions."""
    sizes: tuple[Size, ...] = (IMAGENET, CIFAR)
    compared: Callable[[list[Tensor]], list[Tensor]] = list
    """Of the outputs, what has one value however a launch is divided."""


@dataclass(frozen=True)
class Case:
    """An op at a size."""

    op: str
    """The name of the function in abn_fast.kernels, and what varies: "attention_gate product"."""
    size: Size
    definition: Op = field(repr=False)

    @property
    def directions(self) -> tuple[str, ...]:
        """Forward, and backward where the op has one."""
        return DIRECTIONS if self.definition.backward is not None else DIRECTIONS[:1]

    def floor(self, direction: str, dtype: torch.dtype) -> int:
        """Bytes of features that any implementation must move."""
        count = self.definition.forward if direction == "forward" else self.definition.backward
        assert count is not None
        return count(self.size) * dtype.itemsize

    def limit(self, dtype: torch.dtype) -> float | None:
        """Bytes moved over the floor, at most; None where no limit is set."""
        return self.definition.limit(self.size, dtype)

    def inputs(
        self, dtype: torch.dtype, memory_format: torch.memory_format, values: Callable[..., Tensor] = torch.randn
    ) -> tuple[Tensor, ...]:
        """Inputs that require gradients where the op has a backward; values as torch.randn or torch.empty."""
        return tuple(
            _tensor(kind, shape, dtype, memory_format, values).requires_grad_(self.definition.backward is not None)
            for kind, shape in self.definition.shapes(self.size)
        )

    def call(self, inputs: tuple[Tensor, ...], functions: Any = kernels) -> list[Tensor]:
        """The outputs, of the public functions or of `abn_fast.kernels.reference`."""
        return _flatten(self.definition.call(functions, *inputs))

    def at(self, size: Size) -> "Case":
        """The same op at another size."""
        return replace(self, size=size)

    def step(self, dtype: torch.dtype, memory_format: torch.memory_format) -> Iterator[str]:
        """Call the op on zeros, then its backward, and yield the direction after each; torch's products are left out.

        For proofs that look at launches and not at results.
        """
        with WithoutProducts():
            inputs = self.inputs(dtype, memory_format, torch.zeros)
            outputs = self.call(inputs)
            yield "forward"
            if "backward" in self.directions:
                used = [y for y in outputs if y.requires_grad]
                torch.autograd.grad(used, inputs, [torch.zeros_like(y) for y in used], allow_unused=True)
                yield "backward"

    def backward(self, outputs: list[Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor | None]:
        """The gradients of a random projection of the outputs, by autograd."""
        generator = torch.Generator().manual_seed(1)
        projections = [torch.randn(y.shape, generator=generator).to(y) for y in outputs]
        projections = [_like(y, p) for y, p in zip(outputs, projections, strict=True)]
        return list(torch.autograd.grad(outputs, inputs, projections, allow_unused=True))


def cases(op: str | None = None) -> Iterator[Case]:
    """All cases, or those of an op ("attention_gate" has no variants of its name)."""
    for name, definition in OPS.items():
        if op in (None, name) and hasattr(kernels, name.partition(" ")[0]):
            for size in definition.sizes:
                yield Case(name, size, definition)


def _tensor(
    kind: Kind, shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, values: Any
) -> Tensor:
    if kind is Kind.FEATURES:
        if memory_format == torch.contiguous_format:
            return values(shape, dtype=dtype)  # type: ignore[no-any-return]
        batch, channels, height, width = shape
        return values((batch, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)  # type: ignore[no-any-return]
    value: Tensor = values(shape, dtype=dtype if kind is Kind.PLAIN else reference.accumulator(dtype))
    return value.abs_().add_(0.5) if kind is Kind.POSITIVE else value


def _like(output: Tensor, projection: Tensor) -> Tensor:
    return torch.empty_like(output).copy_(projection)  # in the output's memory format


def _flatten(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [y for each in outputs for y in _flatten(each)]


def _gate_shapes(size: Size) -> list[tuple[Kind, tuple[int, ...]]]:
    maps = (size.batch, size.maps, size.height, size.width)
    return [(Kind.FEATURES, _gated(size)), (Kind.PLAIN, maps), (Kind.EXACT, (size.maps,)), (Kind.EXACT, (size.maps,))]


def _taps_shapes(size: Size) -> list[tuple[Kind, tuple[int, ...]]]:
    taps = (size.batch, 9, size.height, size.width)
    return [(Kind.FEATURES, _gated(size)), (Kind.EXACT, taps), (Kind.EXACT, (1,)), (Kind.EXACT, (1,))]


def _evidence_shapes(size: Size) -> list[tuple[Kind, tuple[int, ...]]]:
    k = size.classes
    z = (size.batch, k, size.height, size.width)
    return [(Kind.FEATURES, z), (Kind.EXACT, (k,)), (Kind.EXACT, (k,)), (Kind.EXACT, (1, k, 3, 3))]


def _inference_shapes(size: Size) -> list[tuple[Kind, tuple[int, ...]]]:
    k = size.classes
    weight = (k, size.stage_channels, 1, 1)
    return [(Kind.FEATURES, _stage(size)), (Kind.PLAIN, weight), (Kind.PLAIN, (k,)), (Kind.PLAIN, (1, k, 3, 3))]


def _pool_shapes(size: Size) -> list[tuple[Kind, tuple[int, ...]]]:
    vector = (size.stage_channels,)
    return [(Kind.FEATURES, _stage(size)), (Kind.EXACT, vector), (Kind.EXACT, vector)]


def _conv_shapes(size: Size) -> list[tuple[Kind, tuple[int, ...]]]:
    vector, weight = (size.stage_channels,), (size.classes, size.stage_channels, 1, 1)
    return [(Kind.FEATURES, _stage(size)), (Kind.EXACT, weight), (Kind.EXACT, vector), (Kind.EXACT, vector)]


def _gated(size: Size) -> tuple[int, ...]:
    return (size.batch, size.channels, size.height, size.width)


def _stage(size: Size) -> tuple[int, ...]:
    return (size.batch, size.stage_channels, size.height, size.width)


def _x(size: Size) -> int:
    return size.batch * size.channels * size.pixels


def _f(size: Size) -> int:
    return size.batch * size.stage_channels * size.pixels


def _z(size: Size) -> int:
    return size.batch * size.classes * size.pixels


def _affine_backward(size: Size) -> int:
    # the design's floor, of batch statistics; where they are known 2 Z would do
    return 3 * _z(size)


def _inference_floor(size: Size) -> int:
    weights = size.classes * (size.stage_channels + 1 + 9)
    return _f(size) + weights + size.batch * (size.classes + size.pixels)


def _batch_norm_class_conv(ops: Any, f: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Tensor:
    if ops is reference:
        return reference.norm_class_conv(f, weight, norm_weight, norm_bias, reference.batch_statistics(f), EPS)
    z: Tensor = ops.batch_norm_class_conv(f, weight, norm_weight, norm_bias, EPS).z
    return z


def _evidence_limit(size: Size, dtype: torch.dtype) -> float:
    many = size.classes >= 1000  # against which the 9 taps of a pixel weigh less
    if dtype.itemsize == 2:
        return 1.10 if many else 1.25
    return 1.06 if many else 1.15


OPS: dict[str, Op] = {
    "attention_gate": Op(
        lambda ops, *x: ops.attention_gate(*x),
        _gate_shapes,
        lambda s: (1 + s.maps) * _x(s),
        lambda s: (2 + s.maps) * _x(s),
        lambda s, _: 1.03 if s.maps == 1 else None,
        (IMAGENET, CIFAR, MULTI_TASK),
    ),
    "attention_gate product": Op(
        lambda ops, *x: ops.attention_gate(*x, gate="product"),
        _gate_shapes,
        lambda s: (1 + s.maps) * _x(s),
        lambda s: (2 + s.maps) * _x(s),
        lambda s, _: 1.03 if s.maps == 1 else None,
        (CIFAR,),
    ),
    "gate_features": Op(
        lambda ops, *x: ops.gate_features(*x),
        lambda s: _gate_shapes(s)[:2],
        lambda s: (1 + s.maps) * _x(s),
        lambda s: (2 + s.maps) * _x(s),
        lambda s, _: 1.03 if s.maps == 1 else None,
    ),
    "class_evidence": Op(
        lambda ops, *x: ops.class_evidence(*x, EPS)[0],
        _evidence_shapes,
        lambda s: 2 * _z(s),
        lambda s: 3 * _z(s),
        _evidence_limit,
    ),
    "class_evidence_affine": Op(
        lambda ops, *x: ops.class_evidence_affine(*x), _evidence_shapes, _z, _affine_backward, _evidence_limit
    ),
    "class_evidence_log_map": Op(
        lambda ops, *x: ops.class_evidence_log_map(*x, EPS)[0],
        lambda s: _evidence_shapes(s)[:3],
        lambda s: 2 * _z(s),
        lambda s: 3 * _z(s),
        _evidence_limit,
    ),
    "class_evidence_log_map_affine": Op(
        lambda ops, *x: ops.class_evidence_log_map_affine(*x),
        lambda s: _evidence_shapes(s)[:3],
        _z,
        _affine_backward,
        _evidence_limit,
    ),
    "class_evidence_inference": Op(
        lambda ops, *x: ops.class_evidence_inference(*x),
        _inference_shapes,
        _inference_floor,
        None,
        lambda s, _: 1.10 if s.classes >= 1000 else 1.20,
    ),
    "class_evidence_taps_inference": Op(
        lambda ops, *x: ops.class_evidence_taps_inference(*x),
        _inference_shapes,
        _inference_floor,
        None,
        lambda s, _: 1.10 if s.classes >= 1000 else 1.20,
        compared=lambda outputs: [outputs[0], reference.sum_taps(outputs[1])],
    ),
    "class_evidence_log_map_inference": Op(
        lambda ops, *x: ops.class_evidence_log_map_inference(*x),
        lambda s: _inference_shapes(s)[:3],
        _inference_floor,
        None,
        lambda s, _: 1.10 if s.classes >= 1000 else 1.20,
    ),
    "attention_head_inference": Op(
        lambda ops, *x: ops.attention_head_inference(*x),
        lambda s: [*_gate_shapes(s)[:1], *_inference_shapes(s), *_taps_shapes(s)[2:]],
        lambda s: 2 * _x(s) + _inference_floor(s),
        None,
        lambda s, _: 1.10 if s.classes >= 1000 else 1.20,
    ),
    "attention_gate_from_taps": Op(
        lambda ops, *x: ops.attention_gate_from_taps(*x, dtype=x[0].dtype), _taps_shapes, lambda s: 2 * _x(s), None
    ),
    "norm_relu_pool": Op(
        lambda ops, *x: ops.norm_relu_pool(*x, EPS)[0],
        _pool_shapes,
        lambda s: 2 * _f(s),
        lambda s: 2 * _f(s),
        lambda s, _: 1.05,
    ),
    "norm_relu_pool_affine": Op(
        lambda ops, *x: ops.norm_relu_pool_affine(*x), _pool_shapes, _f, lambda s: 2 * _f(s), lambda s, _: 1.05
    ),
    "add_relu_pool": Op(
        lambda ops, *x: ops.add_relu_pool(*x),
        lambda s: [(Kind.FEATURES, _stage(s))] * 2,
        lambda s: 2 * _f(s),
        lambda s: 3 * _f(s),
        lambda s, _: 1.05,
    ),
    "batch_statistics": Op(
        lambda ops, *x: ops.batch_statistics(*x),
        lambda s: [(Kind.FEATURES, _stage(s))],
        _f,
        lambda s: 2 * _f(s),
    ),
    "batch_norm_class_conv": Op(
        _batch_norm_class_conv,
        _conv_shapes,
        lambda s: 2 * _f(s) + _z(s),
        lambda s: 3 * _f(s) + 2 * _z(s),
    ),
    "norm_class_conv": Op(
        lambda ops, f, w, g, b, *statistics: ops.norm_class_conv(f, w, g, b, reference.Statistics(*statistics), EPS),
        lambda s: [*_conv_shapes(s), (Kind.EXACT, (s.stage_channels,)), (Kind.POSITIVE, (s.stage_channels,))],
        lambda s: _f(s) + _z(s),
        lambda s: 2 * _f(s) + 2 * _z(s),
    ),
}
"""By the name of the public function; its variants have more words."""
