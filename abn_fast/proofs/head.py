"""The whole attention head, bn1 to gate, forward and backward: bytes against the published head's, bytes kept.

Ours are the bytes of the kernels in the interpreter and of every torch op around them, products included, each operand
once (`traffic`). The published head's are those that Inductor counts for the graphs that it compiles, likewise.
"""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from abn_fast.modules import AttentionHead
from abn_fast.proofs._published_head import PublishedHead
from abn_fast.proofs.cases import CIFAR, IMAGENET, Size
from abn_fast.proofs.interpreted import apart, interpreted

LIMITS = {IMAGENET: 0.48, CIFAR: 0.50}
"""Bytes over the published head's, at most, in float32 with torch's products."""
SAVED = 1.01
"""Bytes kept for backward over those of f, g and z, at most."""

Row = dict[str, Any]


def rows() -> list[Row]:
    """Bytes and saved bytes of the head at batch 32, float32."""
    return [row_of(size) for size in LIMITS]


def own_bytes(size: Size | list[int]) -> dict[str, Any]:
    """Bytes that our head moves, in all and by kernel or torch op, and keeps, where Triton interprets."""
    from abn_fast.proofs.traffic import Traffic

    size = Size(*size)
    saved: dict[int, int] = {}
    head = AttentionHead(size.stage_channels, size.classes)
    known = {x.untyped_storage()._cdata for x in (*head.parameters(), *head.buffers())}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage.nbytes()
        return x

    inputs = _inputs(size)
    with Traffic(images=size.batch) as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = head(*inputs)
    projections = [torch.zeros_like(y) for y in outputs]
    with Traffic(images=size.batch) as backward:
        torch.autograd.grad(outputs, [*inputs, *head.parameters()], projections)
    steps: list[tuple[str, int]] = []
    for direction, traffic in (("forward", forward), ("backward", backward)):
        steps += [(f"{direction} {launch.kernel}", launch.moved_bytes) for launch in traffic.launches]
        steps += [(f"{direction} {name}", count) for name, count in traffic.torch_bytes.items()]
    return {"bytes": forward.moved_bytes + backward.moved_bytes, "saved_bytes": sum(saved.values()), "steps": steps}


def peer_bytes(size: Size | list[int]) -> int:
    """Bytes that Inductor counts for the published head; nothing is compiled to machine code."""
    from torch._inductor import config, metrics
    from torch._inductor.async_compile import AsyncCompile
    from torch._logging._internal import set_logs

    size = Size(*size)
    head = PublishedHead(size.stage_channels, size.classes)
    inputs = _inputs(size)
    set_logs(inductor_metrics=True)  # without this log nothing is counted
    metrics.reset()
    idle = patch.object(AsyncCompile, "cpp_pybinding", lambda *_, **__: lambda *_: None)
    with config.patch(force_disable_caches=True), idle:
        outputs = torch.compile(head, fullgraph=True)(*inputs)
        projections = [torch.zeros_like(y) for y in outputs]
        torch.autograd.grad(outputs, [*inputs, *head.parameters()], projections)
    return metrics.num_bytes_accessed


def row_of(size: Size) -> Row:
    """Of one size."""
    own = interpreted(f"{__name__}:own_bytes", size)
    peer = apart(f"{__name__}:peer_bytes", size, TRITON_INTERPRET="0")
    inputs = sum(x.nbytes for x in _inputs(size)) + 4 * size.batch * size.classes * size.pixels
    ratio, saved_limit = own["bytes"] / peer, int(SAVED * inputs)
    return {
        "case": str(size),
        "bytes": own["bytes"],
        "peer_bytes": peer,
        "ratio": round(ratio, 4),
        "limit": LIMITS[size],
        "saved_bytes": own["saved_bytes"],
        "saved_limit": saved_limit,
        "ok": ratio <= LIMITS[size] and own["saved_bytes"] <= saved_limit,
    }


def _inputs(size: Size) -> list[Tensor]:
    """Stage output and features."""
    channels = (size.stage_channels, size.channels)
    return [torch.zeros(size.batch, c, size.height, size.width, requires_grad=True) for c in channels]
