"""Every family as an ONNX file, proved in ONNX Runtime at batch 1, 2 and the highest and at two image sizes."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from abn_fast import create_model
from abn_fast.export import BatchRange, SizeRange, export_onnx
from tests.export._networks import SMALL, perturbed, small

ALWAYS = {"tasks-resnet"}


@pytest.mark.parametrize(
    "kind", [kind if kind in ALWAYS else pytest.param(kind, marks=pytest.mark.slow) for kind in SMALL]
)
def test_a_file_of_any_batch_and_size_agrees_with_its_network(kind: str, tmp_path: Path) -> None:
    model, images = small(kind)
    size = SizeRange.around((images.shape[2], images.shape[3]))
    proof = export_onnx(model, tmp_path / "model.onnx", size=size, batch=BatchRange(1, 4, 7))
    assert proof.passed
    assert {row.batch for row in proof.comparisons} == {1, 2, 7}
    assert len({row.size for row in proof.comparisons}) == 2
    assert proof.summary["convolutions"] > 0


@pytest.mark.slow
def test_a_pool_of_fixed_output_size_takes_any_image_size(tmp_path: Path) -> None:
    model: Any = create_model("abn_vgg11", num_classes=3)
    model.perception_branch.classifier = nn.Linear(512 * 7 * 7, 3)
    size = SizeRange((96, 96), (160, 160), (300, 300))
    proof = export_onnx(perturbed(model), tmp_path / "model.onnx", size=size, batch=BatchRange(1, 2, 3))
    assert {row.size for row in proof.comparisons} == {"160x160", "96x160"}
