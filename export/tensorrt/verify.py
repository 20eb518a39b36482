from collections.abc import Callable
from pathlib import Path

from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.export.checksum import sha256
from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.proof_runner import proof_runner
from abn_fast.export.proof import Proof, prove
from abn_fast.export.proof.prove import proof_images
from abn_fast.export.tensorrt.accept import read_engine
from abn_fast.export.tensorrt.prove import prove_engine
from abn_fast.export.tensorrt.sidecar import onnx_path
from abn_fast.modules import ImageNetwork


def verify_engine(
    path: Path,
    model: ImageNetwork,
    check_same: Callable[[Metadata], None],
    *,
    runtime: str = "auto",
    device: str | None = None,
    images: str | Path | None = None,
) -> Proof:
    """Prove an engine again, as `prove_engine`.

    Args:
        path: of the engine.
        model: that it came from.
        check_same: refuses metadata of another model.
        runtime: auto, or the engine's own flavour.
        device: a card to run it on, whatever there is.
        images: folder of photographs; by default scikit-learn's.

    Raises:
        AbnFastError: the engine or the ONNX file beside it is missing, damaged or another one.
    """
    sidecar, flavour = read_engine(path)
    checked_choice("runtime", runtime, ("auto", flavour.name))
    onnx = onnx_path(path)
    if not onnx.is_file():
        raise AbnFastError(f"{path}: {onnx.name}, which it was built from, does not stand beside it")
    if sha256(onnx) != sidecar.onnx_sha256:
        raise AbnFastError(f"{onnx} is not the file that {path.name} was built from")
    metadata = sidecar.metadata
    check_same(metadata)
    pictures = proof_images(metadata, images)

    def compare_onnx() -> Proof:
        runner, notes = proof_runner(onnx)
        return prove(runner, model, file=onnx.name, images=pictures, notes=notes)

    return prove_engine(
        path, onnx, sidecar, flavour, model, compare_onnx, file=path.name, images=pictures, device=device
    )
