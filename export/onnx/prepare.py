from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from abn_fast._checks import checked_choice
from abn_fast._optional import require
from abn_fast.data import Preprocessing
from abn_fast.export.describe import describe
from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.editable import editable_network
from abn_fast.export.onnx.program import DTYPES, write_program
from abn_fast.export.optimize.network import check_network
from abn_fast.export.proof import ProofImages
from abn_fast.export.proof.proof import CALIBRATED
from abn_fast.export.proof.prove import proof_images
from abn_fast.export.quantize import (
    CalibrationImages,
    Quantization,
    calibration_images,
    check_quantization,
    write_quantized_program,
)
from abn_fast.export.ranges import BatchRange, SizeRange
from abn_fast.export.served import ServedNetwork, served_network
from abn_fast.modules import ImageNetwork

GATES = ("standard", "function", "editable")
PRECISIONS = (*DTYPES, *CALIBRATED)


@dataclass(frozen=True)
class OnnxProgram:
    """A network ready to become an ONNX file, its arguments and images checked."""

    network: ServedNetwork
    metadata: Metadata
    pictures: ProofImages
    """For the proof."""
    quantization: Quantization | None = None
    calibration: CalibrationImages | None = None

    def write(self, path: Path) -> list[str]:
        """Write the file; returns notes for its proof."""
        if self.quantization is None or self.calibration is None:
            write_program(self.network, self.metadata, path)
            return []
        return write_quantized_program(self.network, self.metadata, path, self.quantization, self.calibration)


def prepare_program(
    model: ImageNetwork,
    *,
    size: SizeRange,
    batch: BatchRange | None = None,
    precision: str = "fp32",
    outputs: Sequence[str] | None = None,
    gate: str = "standard",
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    quantization: Quantization | None = None,
) -> OnnxProgram:
    """Check all that an ONNX file is made from, before any work is done; arguments as of `export_onnx`.

    Raises:
        AbnFastError: the packages of the export extra are missing, or a value is none that `export_onnx` takes.
    """
    check_network(model)
    checked_choice("precision", precision, PRECISIONS)
    checked_choice("gate", gate, GATES)
    check_quantization(precision, quantization, gate)
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="export", purpose="ONNX export")
    served = served_network(model, outputs, DTYPES.get(precision, torch.float32)).cpu()
    if gate == "editable":
        served = editable_network(model, served, size)
    metadata = describe(
        model,
        outputs=served.outputs,
        precision=precision,
        batch=batch or BatchRange(),
        size=size,
        preprocessing=preprocessing,
        classes=classes,
        gate=gate,
    )
    pictures = proof_images(metadata, images)
    calibration = None if quantization is None else calibration_images(quantization, metadata, pictures)
    return OnnxProgram(served, metadata, pictures, quantization, calibration)
