"""Launch configurations as data: the first row that fits, the user's rows before the shipped ones.

Each op keeps its rows in its own folder, `tuning.json`. A row names its kernel and the configuration, and what it is
for: an architecture, a dtype, a memory format, upper bounds of sizes. What it does not name, it fits. The last row of
every kernel names nothing: the safe default.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abn_fast.kernels._layout import memory_format

Configuration = dict[str, int]

_architecture: str | None = None


def configuration(kernel: str, x: Tensor, **sizes: int) -> Configuration:
    """How to launch `kernel` ("class_evidence.apply") on x [N, C, H, W], on its device.

    Sizes are what the kernel's rows may bound, for example classes=1000, pixels=196.
    """
    row = next(row for row in (*_user_rows(), *_shipped_rows(kernel)) if _fits(row, kernel, x, sizes))
    return dict(row["configuration"])


def shipped_rows(op: str) -> list[dict[str, Any]]:
    """The rows of an op's tuning.json."""
    file = Path(__file__).parent / op / "tuning.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return rows


def architecture(device: torch.device) -> str:
    """sm_90 or gfx942 for a GPU; "any" for a device that has none."""
    if _architecture is not None:
        return _architecture
    if device.type != "cuda":
        return "any"
    properties = _properties(device.index if device.index is not None else torch.cuda.current_device())
    hip = getattr(properties, "gcnArchName", "").partition(":")[0] if torch.version.hip else ""
    return hip or f"sm_{properties.major}{properties.minor}"


@contextmanager
def pretend(architecture: str) -> Iterator[None]:
    """Choose configurations as on a GPU of that architecture."""
    global _architecture
    before, _architecture = _architecture, architecture
    try:
        yield
    finally:
        _architecture = before


def _fits(row: Mapping[str, Any], kernel: str, x: Tensor, sizes: Mapping[str, int]) -> bool:
    return (
        row["kernel"] == kernel
        and row.get("architecture", architecture(x.device)) == architecture(x.device)
        and row.get("dtype", str(x.dtype)) == str(x.dtype)
        and row.get("memory_format", str(memory_format(x))) == str(memory_format(x))
        and all(sizes[name] <= bound for name, bound in row.get("at_most", {}).items())
    )


@cache
def _shipped_rows(kernel: str) -> list[dict[str, Any]]:
    return [row for row in shipped_rows(kernel.partition(".")[0]) if row["kernel"] == kernel]


def _user_rows() -> list[dict[str, Any]]:
    return []


@cache
def _properties(index: int) -> Any:
    return torch.cuda.get_device_properties(index)
