from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from abn_fast._checks import checked_choice
from abn_fast._optional import require
from abn_fast.checkpoints import Checkpoint
from abn_fast.export.accept import write_if_proved
from abn_fast.export.formats import ExportRequest
from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.prepare import OnnxProgram, prepare_program
from abn_fast.export.onnx.summary import onnx_summary
from abn_fast.export.openvino.file import WEIGHTS, file_summary, save_model
from abn_fast.export.proof import Proof, prove
from abn_fast.export.quantize.quantization import check_kind
from abn_fast.export.runtimes import RunnerOptions, open_runner

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def export_checkpoint(checkpoint: Checkpoint, path: Path, request: ExportRequest) -> Proof:
    """Write a checkpoint's model as NAME.xml with its weights in NAME.bin, and prove both in OpenVINO.

    fp16 and bf16 are what OpenVINO computes in; fp16 weights are stored so, the others in float32. The .xml holds the
    checksum of its .bin, which is put in place first, so that a pair that does not belong together never runs.

    Raises:
        ProofFailedError: the files' outputs differ from the network's; they are kept as NAME.xml.rejected and
            NAME.bin.rejected.
        AbnFastError: openvino is missing, or a value that the format does not take.
    """
    check_kind(request.precision, "cpu")
    precision = checked_choice("precision", request.precision, PRECISIONS)
    require("openvino", extra="openvino", purpose="OpenVINO export")
    program = prepare_program(
        checkpoint.model,
        size=request.size,
        batch=request.batch,
        precision="int8" if precision == "int8" else "fp32",
        outputs=request.outputs,
        gate=request.gate,
        preprocessing=checkpoint.preprocessing,
        classes=checkpoint.classes,
        images=request.images,
        quantization=request.quantization,
    )
    metadata = replace(program.metadata, precision=precision)

    def write(temporary: Path) -> Proof:
        summary, notes = _write(program, metadata, temporary)
        runner = open_runner(temporary, "openvino", RunnerOptions(device="cpu"))
        return prove(runner, checkpoint.model, file=path.name, images=program.pictures, summary=summary, notes=notes)

    return write_if_proved(path, write, companion=WEIGHTS)


def _write(program: OnnxProgram, metadata: Metadata, path: Path) -> tuple[dict[str, object], list[str]]:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        notes = program.write(source)
        save_model(source, metadata, path)
        nodes = {name: value for name, value in onnx_summary(source).items() if name in ("nodes", "convolutions")}
    return nodes | file_summary(path), notes
