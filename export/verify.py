import json
from pathlib import Path
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import read_checkpoint
from abn_fast.export.accept import proof_path, write_proof
from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx.proof_runner import proof_runner
from abn_fast.export.onnx.summary import onnx_summary
from abn_fast.export.openvino.file import file_summary
from abn_fast.export.proof import Proof, prove
from abn_fast.export.proof.prove import proof_images
from abn_fast.export.tensorrt.flavour import FLAVOURS
from abn_fast.export.tensorrt.verify import verify_engine
from abn_fast.modules import ImageNetwork

ENGINE_SUFFIXES = {flavour.suffix for flavour in FLAVOURS.values()}


def verify(
    file: str | Path,
    against: str | Path,
    *,
    runtime: str = "auto",
    device: str | None = None,
    images: str | Path | None = None,
) -> Proof:
    """Prove an exported file against its checkpoint again, and renew the proof beside it.

    Args:
        file: exported by this library.
        against: the checkpoint that it came from.
        runtime: as of `InferenceSession`.
        device: likewise.
        images: folder of photographs; by default scikit-learn's.

    Returns:
        The proof, failed or passed; `check()` raises if it failed.

    Raises:
        AbnFastError: either file is missing or damaged, or the checkpoint holds another model or other classes.
    """
    path = Path(file)
    checkpoint = read_checkpoint(against)
    if path.suffix in ENGINE_SUFFIXES and path.is_file():
        proof = verify_engine(
            path,
            checkpoint.model,
            lambda metadata: _check_same(path, metadata, str(against), checkpoint.model, checkpoint.classes),
            runtime=runtime,
            device=device,
            images=images,
        )
        write_proof(proof, path)
        return proof
    runner, notes = proof_runner(path, runtime, device)
    if runner.runtime == "torch":
        raise AbnFastError(f"{path} is a checkpoint itself: give a file that abn-fast export wrote")
    _check_same(path, runner.metadata, str(against), checkpoint.model, checkpoint.classes)
    pictures = proof_images(runner.metadata, images)
    summary = onnx_summary(path) if path.suffix == ".onnx" else file_summary(path)
    notes += _changes(path, summary)
    proof = prove(runner, checkpoint.model, file=path.name, images=pictures, summary=summary, notes=notes)
    write_proof(proof, path)
    return proof


def _check_same(path: Path, metadata: Metadata, name: str, model: ImageNetwork, classes: list[str] | None) -> None:
    config = model.config
    if metadata.model is not None and config is not None and metadata.model != config.name:
        raise AbnFastError(f"{path} was exported from {metadata.model}, but {name} holds {config.name}")
    if metadata.num_classes != model.num_classes:
        raise AbnFastError(f"{path} has {metadata.num_classes} classes, but {name} {model.num_classes}")
    if metadata.classes is not None and classes is not None and list(metadata.classes) != classes:
        raise AbnFastError(f"{path} has the classes {', '.join(metadata.classes)}, but {name} {', '.join(classes)}")


def _changes(path: Path, summary: dict[str, Any]) -> list[str]:
    """Whether the file is still the one that was proved."""
    try:
        before = json.loads(proof_path(path).read_text())["summary"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [] if before == summary["sha256"] else ["the file changed since its last proof"]
