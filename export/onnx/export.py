from collections.abc import Sequence
from pathlib import Path

from abn_fast.checkpoints import Checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export.accept import write_if_proved
from abn_fast.export.formats import ExportRequest
from abn_fast.export.onnx.editable import with_edited_maps
from abn_fast.export.onnx.prepare import prepare_program
from abn_fast.export.onnx.proof_runner import proof_runner
from abn_fast.export.onnx.summary import onnx_summary
from abn_fast.export.proof import Proof, prove
from abn_fast.export.quantize import Quantization
from abn_fast.export.quantize.quantization import check_kind
from abn_fast.export.ranges import BatchRange, SizeRange
from abn_fast.export.runtimes.onnxruntime import OnnxRuntimeRunner
from abn_fast.modules import ImageNetwork


def export_onnx(
    model: ImageNetwork,
    path: str | Path,
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
) -> Proof:
    """Write a network as ONNX and prove the file in ONNX Runtime; it appears only if the proof holds.

    Input "images" [batch, channels, height, width], float32, normalised; batch and size are dynamic unless fixed.
    Outputs are float32 under their own names. The metadata (`Metadata`) hold classes, preprocessing, model and
    versions. The proof stands beside the file as NAME.proof.json; a file that failed is kept as NAME.rejected.

    Args:
        model: any network of this library; it stays as it is.
        path: of the file.
        size: image sizes that it takes.
        batch: images at a time, 1:8:64 by default.
        precision: fp32, fp16, bf16, int8 or fp8 (for engines of TensorRT), of the weights and products.
        outputs: any of logits, attention, attention_logits, class_evidence, probabilities (softmax of the logits) and
            attention_upsampled (the map at the image's size); by default logits and, where there is one, attention.
            The file holds what they need and no more.
        gate: "standard" operators, or one "function" node abn_fast::attention_gate that has them as its body; or
            "editable": standard ones and two inputs more, attention_override and attention_mask [batch, 1, h, w], with
            which the map is (1 - mask) * M + mask * override. It fixes the size.
        preprocessing: from a picture to what the network sees.
        classes: their names.
        images: folder of photographs for the proof; by default scikit-learn's.
        quantization: how it becomes int8 or fp8.

    Raises:
        ProofFailedError: the file's outputs differ from the network's.
        AbnFastError: the packages of the export extra are missing, or a value is none of the above.
    """
    if quantization is None:
        check_kind(precision, "cpu")
    program = prepare_program(
        model,
        size=size,
        batch=batch,
        precision=precision,
        outputs=outputs,
        gate=gate,
        preprocessing=preprocessing,
        classes=classes,
        images=images,
        quantization=quantization,
    )

    def write(temporary: Path) -> Proof:
        notes = program.write(temporary)
        runner, more = proof_runner(temporary)
        proof = prove(
            runner,
            model,
            file=Path(path).name,
            images=program.pictures,
            summary=onnx_summary(temporary),
            notes=[*notes, *more],
        )
        if gate == "editable" and isinstance(runner, OnnxRuntimeRunner):
            return with_edited_maps(proof, runner, model, program.pictures)
        return proof

    return write_if_proved(Path(path), write)


def export_checkpoint(checkpoint: Checkpoint, path: Path, request: ExportRequest) -> Proof:
    """`export_onnx` of a checkpoint."""
    return export_onnx(
        checkpoint.model,
        path,
        size=request.size,
        batch=request.batch,
        precision=request.precision,
        outputs=request.outputs,
        gate=request.gate,
        preprocessing=checkpoint.preprocessing,
        classes=checkpoint.classes,
        images=request.images,
        quantization=request.quantization,
    )
