from pathlib import Path
from typing import NamedTuple

import pytest

from abn_fast import save_checkpoint
from abn_fast.export import BatchRange, SizeRange, export_onnx
from tests.export._trained import CLASSES, SEEN, save_pictures, trained


class Files(NamedTuple):
    """A checkpoint of a network that has learnt something, and pictures for it."""

    checkpoint: Path
    images: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("demo")
    checkpoint = folder / "model.safetensors"
    save_checkpoint(trained(), checkpoint, preprocessing=SEEN, classes=CLASSES)
    return Files(checkpoint, save_pictures(folder / "images", range(6)))


@pytest.fixture(scope="session")
def exported(files: Files) -> Path:
    """The same network as an ONNX file with class evidence."""
    return _export(files.checkpoint.with_suffix(".onnx"), "standard")


@pytest.fixture(scope="session")
def editable(files: Files) -> Path:
    """The same with a map as an input."""
    return _export(files.checkpoint.with_name("editable.onnx"), "editable")


def _export(path: Path, gate: str) -> Path:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason="the extra export is not installed")
    outputs = ("logits", "attention", "class_evidence")
    export_onnx(
        trained(),
        path,
        size=SizeRange.fixed(SEEN.image_size),
        batch=BatchRange(2, 2, 2),
        outputs=outputs,
        gate=gate,
        preprocessing=SEEN,
        classes=CLASSES,
    )
    return path
