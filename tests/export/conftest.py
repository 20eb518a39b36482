from pathlib import Path
from typing import NamedTuple

import pytest

from abn_fast import save_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, Proof, SizeRange, export_onnx
from abn_fast.modules import ImageNetwork
from tests.export._networks import small

CLASSES = ["cat", "dog", "owl"]
PREPROCESSING = Preprocessing((20, 26), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


class Exported(NamedTuple):
    """A network, its checkpoint, its ONNX file and the file's proof."""

    model: ImageNetwork
    checkpoint: Path
    file: Path
    proof: Proof


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A file of any batch and size."""
    folder = tmp_path_factory.mktemp("exported")
    model, _ = small("abn-cifar_resnet8")
    checkpoint, file = folder / "model.safetensors", folder / "model.onnx"
    save_checkpoint(model, checkpoint, preprocessing=PREPROCESSING, classes=CLASSES)
    proof = export_onnx(
        model,
        file,
        size=SizeRange.around((20, 26)),
        batch=BatchRange(1, 4, 5),
        preprocessing=PREPROCESSING,
        classes=CLASSES,
    )
    return Exported(model, checkpoint, file, proof)
