"""The file formats that `abn-fast export` writes."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import Checkpoint
from abn_fast.export.proof import Proof
from abn_fast.export.quantize.quantization import Quantization
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
    """Folder of photographs for the proof."""
    quantization: Quantization | None = None
    """How it becomes int8 or fp8."""
    targets: tuple[str, ...] | None = None
    """Compute capabilities of an engine, as sm_86; None for the format's own choice."""
    plugin: bool = False
    """Whether an engine's gate is this library's kernel."""


class Format(NamedTuple):
    """One kind of file."""

    module: str
    """Has `export_checkpoint(checkpoint, path, request) -> Proof`, which raises `ProofFailedError` for a bad file."""
    suffix: str
    has_targets: bool = False
    """Whether it is built for certain cards."""


FORMATS = {
    "onnx": Format("abn_fast.export.onnx.export", ".onnx"),
    "tensorrt": Format("abn_fast.export.tensorrt.export", ".plan", has_targets=True),
    "tensorrt-rtx": Format("abn_fast.export.tensorrt.export", ".engine", has_targets=True),
    "openvino": Format("abn_fast.export.openvino.export", ".xml"),
}
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
"""Of any format; each says itself which of them it writes."""


def export_checkpoint(checkpoint: Checkpoint, path: Path, format_name: str, request: ExportRequest) -> Proof:
    """Write a checkpoint's model in a format; the file appears only if its proof holds.

    Raises:
        ProofFailedError: the file's outputs differ from the model's.
        AbnFastError: unknown format, or a value that the format does not take.
    """
    chosen = FORMATS[checked_choice("format", format_name, FORMATS)]
    if path.suffix != chosen.suffix:
        raise AbnFastError(f"{path}: a file of format {format_name} is called NAME{chosen.suffix}")
    if request.targets is not None and not chosen.has_targets:
        raise AbnFastError(
            f"targets={','.join(request.targets)!r}: a file of format {format_name} is built for no card"
        )
    if request.plugin and not chosen.has_targets:
        raise AbnFastError(f"plugin: it is of engines; a file of format {format_name} has --gate function")
    if request.gate == "editable" and format_name != "onnx":
        raise AbnFastError(f"gate='editable' is of ONNX files, not of format {format_name}")
    write = cast("Callable[[Checkpoint, Path, ExportRequest], Proof]", import_module(chosen.module).export_checkpoint)
    return write(checkpoint, path, request)
