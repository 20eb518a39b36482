"""ONNX files that take a map beside the images."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from abn_fast import AbnFastError, AttentionBranchNetwork
from abn_fast.checkpoints import Checkpoint
from abn_fast.export import BatchRange, InferenceSession, ProofFailedError, SizeRange, export_onnx
from abn_fast.export.description import description
from abn_fast.export.formats import ExportRequest, export_checkpoint
from abn_fast.export.onnx.editable import EditableNetwork
from tests.export._networks import relative_error, small
from tests.export.conftest import CLASSES, PREPROCESSING

for module in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(module, reason="the extra export is not installed")

SIZE = SizeRange.fixed(PREPROCESSING.image_size)
OUTPUTS = ("logits", "attention", "attention_logits", "class_evidence", "probabilities", "attention_upsampled")


def export(kind: str, path: Path, **arguments: Any) -> Any:
    model = small(kind)[0]
    given: dict[str, Any] = {"size": SIZE, "batch": BatchRange(1, 2, 3), "gate": "editable", "classes": CLASSES}
    return model, export_onnx(model, path, preprocessing=PREPROCESSING, **(given | arguments))


@pytest.mark.parametrize("kind", ["abn-cifar_resnet8", "abn-product"])
def test_the_file_is_the_network_given_the_map(kind: str, tmp_path: Path) -> None:
    model, proof = export(kind, tmp_path / "model.onnx", outputs=OUTPUTS)
    assert [check.name for check in proof.checks] == ["edited maps"]
    session = InferenceSession(tmp_path / "model.onnx", device="cpu")
    images = torch.randn(3, 3, *PREPROCESSING.image_size)
    with torch.no_grad():
        own = model(images)
        assert session.map_size == own.attention.shape[2:]
        override, mask = torch.rand(own.attention.shape), (torch.rand(own.attention.shape) > 0.5).float()
        given = torch.where(mask == 1, override, own.attention)
        expected = model(images, attention=given)
    for ours, theirs in ((session(images), own), (session.with_map(images, override, mask), expected)):
        for name in ("logits", "attention", "attention_logits"):
            assert relative_error(getattr(ours, name), getattr(theirs, name)) < 1e-4, name
        assert relative_error(ours.probabilities, theirs.logits.softmax(-1)) < 1e-4
    assert relative_error(session.with_map(images, override, mask).class_evidence, session(images).class_evidence) == 0
    assert relative_error(own.logits, expected.logits) > 1e-2  # so that the comparison says something


def test_a_file_that_ignores_the_map_fails_its_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = EditableNetwork.forward

    def ignoring(
        self: EditableNetwork,
        images: Tensor,
        attention_override: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Any:
        mask = None if attention_mask is None else 0 * attention_mask
        return forward(self, images, attention_override, mask)

    monkeypatch.setattr(EditableNetwork, "forward", ignoring)
    with pytest.raises(ProofFailedError, match="edited maps: logits differ by"):
        export("abn-cifar_resnet8", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_its_description_names_every_input(tmp_path: Path) -> None:
    export("abn-cifar_resnet8", tmp_path / "model.onnx")
    text = description(tmp_path / "model.onnx")
    assert "attention_override float32 [batch, 1, 10, 13]; attention_mask float32 [batch, 1, 10, 13]" in text
    shapes = "--minShapes=images:1x3x20x26,attention_override:1x1x10x13,attention_mask:1x1x10x13"
    assert shapes in text


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("abn-cifar_resnet8", {"size": SizeRange.around((20, 26))}, "and with it that of images: --size 20x26"),
        ("abn-cifar_resnet8", {"outputs": ["logits"]}, "with outputs logits: it needs logits and attention"),
        ("tasks-cifar_resnet", {}, "of attention branch networks with one map"),
        ("plain-cifar_resnet8", {}, "of attention branch networks with one map"),
    ],
)
def test_what_cannot_take_a_map_is_refused(kind: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=message):
        export(kind, tmp_path / "model.onnx", **arguments)


def test_other_formats_and_files_refuse_maps(tmp_path: Path) -> None:
    model = small("abn-cifar_resnet8")[0]
    request = ExportRequest(SIZE, BatchRange(1, 1, 1), gate="editable")
    with pytest.raises(AbnFastError, match="gate='editable' is of ONNX files, not of format openvino"):
        export_checkpoint(Checkpoint(cast(AttentionBranchNetwork, model)), tmp_path / "model.xml", "openvino", request)
    session = InferenceSession(model, device="cpu")
    assert session.map_size is None
    with pytest.raises(AbnFastError, match="takes no map in torch: write one with abn-fast export --gate editable"):
        session.with_map(torch.zeros(1, 3, 20, 26), torch.zeros(1, 1, 10, 13), torch.zeros(1, 1, 10, 13))


def test_maps_of_another_size_are_refused(tmp_path: Path) -> None:
    export("abn-cifar_resnet8", tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx", device="cpu")
    for shapes in (((1, 1, 9, 13), (1, 1, 10, 13)), ((1, 1, 10, 13), (2, 1, 10, 13))):
        with pytest.raises(AbnFastError, match=r"has shape .*; expected \(1, 1, 10, 13\)"):
            session.with_map(torch.zeros(1, 3, 20, 26), *(torch.zeros(shape) for shape in shapes))
