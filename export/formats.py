"""The file formats that `abn-fast export` writes."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from abn_fast._checks import checked_choice
from abn_fast.checkpoints import Checkpoint
from abn_fast.export.proof import Proof
from abn_fast.export.ranges import BatchRange, SizeRange


@dataclass(frozen=True)
class ExportRequest:
    """What a file is asked to be."""

    size: SizeRange
    batch: BatchRange
    precision: str = "fp32"
    outputs: tuple[str, ...] | None = None
    """Names, in order; None for logits and, where there is one, attention."""
    gate: str = "standard"
    images: Path | None = None
    """Folder of photographs for calibration and proof."""


class Format(NamedTuple):
    """One kind of file."""

    module: str
    """Has `export_checkpoint(checkpoint, path, request) -> Proof`, which raises `ProofFailedError` for a bad file."""
    suffix: str


FORMATS = {"onnx": Format("abn_fast.export.onnx.export", ".onnx")}
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
"""Of any format; each says itself which of them it writes."""


def export_checkpoint(checkpoint: Checkpoint, path: Path, format_name: str, request: ExportRequest) -> Proof:
    """Write a checkpoint's model in a format; the file appears only if its proof holds.

    Raises:
        ProofFailedError: the file's outputs differ from the model's.
        AbnFastError: unknown format, or a value that the format does not take.
    """
    module = import_module(FORMATS[checked_choice("format", format_name, FORMATS)].module)
    write = cast("Callable[[Checkpoint, Path, ExportRequest], Proof]", module.export_checkpoint)
    return write(checkpoint, path, request)
