"""Launch configurations as data: the first row that fits, the user's rows before the shipped ones.

Each op keeps its rows in its own folder, `tuning.json`. A row names its kernel and the configuration, and what it is
for: an architecture, a card, a dtype, a memory format, bounds of sizes. What it does not name, it fits. The last row
of every kernel names nothing: the safe default. The user's rows are those that `abn-fast kernels tune` measured.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._layout import memory_format
from abn_fast.kernels._tuning_file import FIX, Row, read_tuned_rows, shipped_rows, tuned_path

Configuration = dict[str, int]

_NAMED = ("architecture", "card", "dtype", "memory_format")


class Request(NamedTuple):
    """What a launcher asks a configuration for."""

    kernel: str
    architecture: str
    card: str | None
    dtype: str
    memory_format: str
    sizes: tuple[tuple[str, int], ...]


class _State(NamedTuple):
    pretended: tuple[str, str | None] | None = None
    rows: Sequence[Row] | None = None
    requests: list[Request] | None = None


_state = _State()


def configuration(kernel: str, x: Tensor, **sizes: int) -> Configuration:
    """How to launch `kernel` ("class_evidence.apply") on x [N, C, H, W], on its device.

    Sizes are what the kernel's rows may bound beside the batch, channels and pixels of x, for example maps=40.

    Raises:
        AbnFastError: the user's file of measured rows is not one.
    """
    return dict(_choose(kernel, x.device, x.dtype, memory_format(x), x.shape, tuple(sizes.items())))


def architecture(device: torch.device) -> str:
    """sm_90 or gfx942 for a GPU; "any" for a device that has none."""
    if _state.pretended is not None:
        return _state.pretended[0]
    if device.type != "cuda":
        return "any"
    properties = _properties(device)
    hip = getattr(properties, "gcnArchName", "").partition(":")[0] if torch.version.hip else ""
    return hip or f"sm_{properties.major}{properties.minor}"


def warps_of(lanes: int, device: torch.device) -> int:
    """Warps in which a program has that many lanes: a warp has 32, on AMD's GPUs 64."""
    return max(1, lanes // (64 if architecture(device).startswith("gfx") else 32))


def card(device: torch.device) -> str | None:
    """A GPU's name, which is what the user's rows are measured on; None for a device that is not one."""
    if _state.pretended is not None:
        return _state.pretended[1]
    return str(_properties(device).name) if device.type == "cuda" else None


@contextmanager
def pretend(architecture: str, card: str | None = None) -> Iterator[None]:
    """Choose configurations as on a GPU of that architecture; from the user's rows too if a card is named."""
    with _changed(pretended=(architecture, card)):
        yield


@contextmanager
def use(rows: Sequence[Row]) -> Iterator[None]:
    """Choose from these rows before the shipped ones, instead of from the user's."""
    with _changed(rows=rows):
        yield


@contextmanager
def requests() -> Iterator[list[Request]]:
    """The requests that are made inside, each once."""
    made: list[Request] = []
    with _changed(requests=made):
        yield made


def reload() -> None:
    """Read the user's rows again at the next launch."""
    _tuned_rows.cache_clear()
    _choose.cache_clear()


@contextmanager
def _changed(**changes: Any) -> Iterator[None]:
    global _state
    before, _state = _state, _state._replace(**changes)
    _choose.cache_clear()
    try:
        yield
    finally:
        _state = before
        _choose.cache_clear()


@lru_cache(maxsize=4096)
def _choose(
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format,
    shape: torch.Size,
    sizes: tuple[tuple[str, int], ...],
) -> Configuration:
    batch, channels, height, width = shape
    known = {"batch": batch, "channels": channels, "pixels": height * width, **dict(sizes)}
    request = Request(kernel, architecture(device), card(device), str(dtype), str(layout), tuple(known.items()))
    if _state.requests is not None:
        _state.requests.append(request)
    tuned = next((row for row in _rows_before_the_shipped(request) if _fits(row, request)), None)
    if tuned is not None and tuned["configuration"] is not None:
        return dict(tuned["configuration"])
    return dict(next(row["configuration"] for row in _shipped_rows(kernel) if _fits(row, request)))


def _rows_before_the_shipped(request: Request) -> Sequence[Row]:
    if _state.rows is not None:
        return _state.rows
    return () if request.card is None else _tuned_rows(request.kernel, frozenset(dict(request.sizes)))


def _fits(row: Row, request: Request) -> bool:
    sizes = dict(request.sizes)
    return (
        row["kernel"] == request.kernel
        and all(row.get(name, getattr(request, name)) == getattr(request, name) for name in _NAMED)
        and all(sizes[name] <= bound for name, bound in row.get("at_most", {}).items())
        and all(sizes[name] >= bound for name, bound in row.get("at_least", {}).items())
    )


@cache
def _shipped_rows(kernel: str) -> list[Row]:
    return [row for row in shipped_rows(kernel.partition(".")[0]) if row["kernel"] == kernel]


@cache
def _tuned_rows(kernel: str, sizes: frozenset[str]) -> Sequence[Row]:
    rows = [row for row in read_tuned_rows() if row["kernel"] == kernel]
    for bounds in (row.get(name, {}) for row in rows for name in ("at_most", "at_least")):
        if unknown := bounds.keys() - sizes:
            raise AbnFastError(
                f"{tuned_path()}: a row of {kernel} bounds {', '.join(sorted(unknown))}; "
                f"expected bounds of {', '.join(sorted(sizes))}: {FIX}"
            )
    return rows


@cache
def _properties(device: torch.device) -> Any:
    return torch.cuda.get_device_properties(device)
