import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast.checkpoints import Checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export.accept import write_if_proved
from abn_fast.export.checksum import sha256
from abn_fast.export.formats import ExportRequest
from abn_fast.export.onnx.prepare import OnnxProgram, prepare_program
from abn_fast.export.onnx.proof_runner import proof_runner
from abn_fast.export.proof import Proof, prove
from abn_fast.export.proof.proof import CALIBRATED
from abn_fast.export.quantize import Quantization
from abn_fast.export.ranges import BatchRange, SizeRange
from abn_fast.export.tensorrt.build import BuiltEngine, build_engine
from abn_fast.export.tensorrt.evidence import build_record
from abn_fast.export.tensorrt.flavour import CLASSIC, FLAVOURS, RTX
from abn_fast.export.tensorrt.log import write_log
from abn_fast.export.tensorrt.plugin import PLUGIN_ID
from abn_fast.export.tensorrt.products import products_as_convolutions
from abn_fast.export.tensorrt.prove import prove_engine
from abn_fast.export.tensorrt.sidecar import Sidecar, log_path, onnx_path
from abn_fast.modules import ImageNetwork


def export_tensorrt(
    model: ImageNetwork,
    path: str | Path,
    *,
    size: SizeRange,
    flavour: str = RTX.name,
    targets: Sequence[str] | None = None,
    batch: BatchRange | None = None,
    precision: str = "fp16",
    outputs: Sequence[str] | None = None,
    gate: str = "standard",
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    quantization: Quantization | None = None,
    plugin: bool = False,
) -> Proof:
    """Write a network as an engine of TensorRT-RTX or TensorRT and prove it; it appears only if the proof holds.

    Beside NAME stand NAME.onnx, from which it was built, NAME.json (`Sidecar`), without which it is not run, NAME.log,
    the builder's messages with their times, and NAME.proof.json. Where there is no card that the engine was built for,
    the proof is of the ONNX file, of what parser, log and header say, and states that the engine was not run.

    Args:
        model: any network of this library; it stays as it is.
        path: of the file, NAME.engine for TensorRT-RTX and NAME.plan for TensorRT.
        size: image sizes that it takes; it is fastest at the best one.
        flavour: tensorrt-rtx, which needs no card for it, or tensorrt, which builds for the card at hand.
        targets: compute capabilities for one engine of TensorRT-RTX, as sm_86; by default all from sm_80 on.
        batch: images at a time, 1:8:64 by default.
        precision: fp32, fp16, bf16 (from sm_80 on), int8 or fp8 (from sm_89 on).
        outputs: as of `export_onnx`.
        gate: likewise.
        preprocessing: likewise.
        classes: likewise.
        images: likewise.
        quantization: how it becomes int8 or fp8; an engine's is always symmetric.
        plugin: whether the gate is this library's kernel, not what the builder makes of standard operators. It needs
            Triton here; where an engine of TensorRT-RTX runs, this library. See docs/deployment.md.

    Raises:
        ProofFailedError: the outputs differ from the network's, or the engine is not what its ONNX file says.
        AbnFastError: the flavour is not installed or has no such target, or a value is none of the above.
    """
    maker = FLAVOURS[checked_choice("flavour", flavour, FLAVOURS)]
    path = Path(path)
    if path.suffix != maker.suffix:
        raise AbnFastError(f"{path}: {maker.title} engines are called NAME{maker.suffix}")
    if quantization is not None and quantization.kind != "tensorrt":
        raise AbnFastError(f"quantize_for={quantization.kind!r}: an engine takes symmetric int8, that is 'tensorrt'")
    if plugin and precision in CALIBRATED:
        raise AbnFastError(
            f"plugin with precision={precision!r}: the gate's kernel is fp32, fp16 or bf16; leave it out"
        )
    chosen = maker.checked_targets(None if targets is None else tuple(targets), precision)
    maker.load(f"building {maker.title} engines")
    program = prepare_program(
        model,
        size=size,
        batch=batch,
        precision=precision,
        outputs=outputs,
        gate="function" if plugin else gate,
        preprocessing=preprocessing,
        classes=classes,
        images=images,
        quantization=quantization,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        onnx = Path(folder) / onnx_path(path).name
        notes = _write_onnx(program, onnx, chosen)
        built = build_engine(onnx, maker, chosen or None, plugin=plugin)
        sidecar = _sidecar(built, maker.name, onnx, PLUGIN_ID if plugin else None)

        def compare_onnx() -> Proof:
            runner, more = proof_runner(onnx)
            return prove(runner, model, file=onnx.name, images=program.pictures, notes=[*notes, *more])

        def write(temporary: Path) -> Proof:
            temporary.write_bytes(built.engine)
            return prove_engine(
                temporary, onnx, sidecar, maker, model, compare_onnx, file=path.name, images=program.pictures
            )

        proof = write_if_proved(path, write)
        sidecar.write(path)
        onnx.replace(onnx_path(path))
        write_log(built.log, log_path(path))
    return proof


def export_checkpoint(checkpoint: Checkpoint, path: Path, request: ExportRequest) -> Proof:
    """`export_tensorrt` of a checkpoint, in the flavour that the path's suffix stands for."""
    return export_tensorrt(
        checkpoint.model,
        path,
        size=request.size,
        flavour=CLASSIC.name if path.suffix == CLASSIC.suffix else RTX.name,
        targets=request.targets,
        batch=request.batch,
        precision=request.precision,
        outputs=request.outputs,
        gate=request.gate,
        preprocessing=checkpoint.preprocessing,
        classes=checkpoint.classes,
        images=request.images,
        quantization=request.quantization,
        plugin=request.plugin,
    )


def _write_onnx(program: OnnxProgram, path: Path, targets: tuple[str, ...]) -> list[str]:
    notes = program.write(path)
    if "sm_75" in targets and program.metadata.precision in ("fp32", "int8"):
        package = require("onnx", extra="export", purpose="building an engine")
        model = package.load(path)
        if products_as_convolutions(model):
            package.save(model, path)
            notes = [*notes, "fully connected layers became 1x1 convolutions: sm_75 has no other kernels for them"]
    return notes


def _sidecar(built: BuiltEngine, flavour: str, onnx: Path, plugin: str | None) -> Sidecar:
    digest, record = hashlib.sha256(built.engine).hexdigest(), build_record(built)
    return Sidecar(flavour, built.version, built.targets, digest, sha256(onnx), built.metadata, record, plugin)
