import tempfile
from dataclasses import replace
from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast.export.image_folder import image_paths
from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.program import write_program
from abn_fast.export.proof.images import ProofImages
from abn_fast.export.proof.proof import CALIBRATED
from abn_fast.export.proof.prove import proof_sizes
from abn_fast.export.quantize.calibration import CalibrationImages
from abn_fast.export.quantize.kept_float import KEPT_FLOAT
from abn_fast.export.quantize.quantization import Quantization, check_kind
from abn_fast.export.quantize.quantize import quantize_onnx
from abn_fast.export.ranges import size_text
from abn_fast.export.served import ServedNetwork


def check_quantization(precision: str, quantization: Quantization | None, gate: str = "standard") -> None:
    """Refuse what does not go together.

    Raises:
        AbnFastError: 8 bits without a calibration folder, or a calibration of another precision, or with a gate of
            ours; fp8 for CPUs.
    """
    calibrated = precision in CALIBRATED
    if quantization is not None:
        if not calibrated:
            raise AbnFastError(f"precision={precision!r} is not calibrated: take int8, or leave the calibration out")
        check_kind(precision, quantization.kind)
    elif calibrated:
        raise AbnFastError(
            f"precision={precision!r} is calibrated on images: give a folder of them (--calibration FOLDER)"
        )
    if calibrated and gate != "standard":
        raise AbnFastError(f"gate={gate!r} with precision={precision!r}: take gate='standard'")


def write_quantized_program(
    network: ServedNetwork,
    metadata: Metadata,
    path: Path,
    quantization: Quantization,
    images: CalibrationImages,
) -> list[str]:
    """Write a float32 network as one int8 or fp8 ONNX file; returns notes for its proof.

    Raises:
        AbnFastError: as of `write_program` and `quantize_onnx`.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float32.onnx"
        write_program(network, replace(metadata, precision="fp32"), whole)
        quantize_onnx(
            whole,
            path,
            images.batches(metadata.batch),
            precision=metadata.precision,
            kind=quantization.kind,
            keep_float=quantization.keep_float,
            count=len(images) * len(images.sizes),
        )
    kept = ", ".join(KEPT_FLOAT[part] for part in quantization.keep_float) or "no layer"
    sizes = " and ".join(map(size_text, images.sizes))
    calibrated = f"calibrated on {len(images)} images at {sizes}"
    return [f"{metadata.precision} for {quantization.kind}, {calibrated}; {kept} in float32"]


def calibration_images(quantization: Quantization, metadata: Metadata, proof_images: ProofImages) -> CalibrationImages:
    """The images of a calibration at the sizes of the proof, which sees none of them.

    Raises:
        AbnFastError: the folder is missing, empty, holds unreadable images, or is also the proof's.
    """
    shared = {path.resolve() for path in proof_images.paths} & {
        path.resolve() for path in image_paths(quantization.calibration, "calibration")
    }
    if shared:
        raise AbnFastError(
            f"{len(shared)} images are both calibrated and proved on, among them {str(min(shared))!r}: "
            "give --images another folder than --calibration"
        )
    return CalibrationImages(quantization.calibration, proof_images.preprocessing, *proof_sizes(metadata.size))
