"""A proof passes for the same network and for no other."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from abn_fast import AbnFastError, create_model, save_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export import BatchRange, Metadata, ProofFailedError, SizeRange, verify
from abn_fast.export.describe import describe
from abn_fast.export.proof import ProofImages, prove
from abn_fast.export.runtimes.torch import NetworkRunner
from abn_fast.export.served import served_network
from abn_fast.modules import ImageNetwork
from tests.export._networks import small
from tests.export.conftest import CLASSES, PREPROCESSING, Exported

SIZE = SizeRange.fixed((20, 26))


class Changed(NetworkRunner):
    """A runner whose outputs are changed on their way."""

    change: Any = None

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.change(super().run(images))
        return outputs


def runner(model: ImageNetwork, change: Any, precision: str = "fp32", size: SizeRange = SIZE) -> Changed:
    network = served_network(model)
    batch = BatchRange(1, 2, 3)
    metadata = describe(model, outputs=network.outputs, precision=precision, batch=batch, size=size)
    made = Changed(network, metadata, "cpu")
    made.change = change
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: (out[0], out[1] * 0.99), "attention differ by"),
        (lambda out: (out[0] + 0.1, out[1]), "logits differ by"),
        (lambda out: (out[0].flip(1), out[1]), "top class agrees on"),
        (lambda out: (out[0] * float("nan"), out[1]), "logits differ by inf"),
        (lambda out: (out[0][:, :2], out[1]), "logits differ by inf"),
        (lambda out: (out[0].roll(1, 0) if len(out[0]) == 3 else out[0], out[1]), r"\(3 x 20x26\)"),
    ],
)
def test_a_changed_output_fails(change: Any, message: str) -> None:
    model, _ = small("abn-cifar_resnet8")
    proof = prove(runner(model, change), model, file="file")
    assert not proof.passed
    with pytest.raises(ProofFailedError, match=message) as error:
        proof.check()
    assert error.value.proof is proof
    assert "FAILED" in proof.table()


def test_the_same_network_passes_and_another_does_not() -> None:
    model, _ = small("abn-cifar_resnet8")
    same = runner(model, lambda out: out)
    assert prove(same, model, file="file").check().passed
    other = copy.deepcopy(model)
    weights: Any = other.perception_branch.classifier
    torch.nn.init.normal_(weights.weight)
    assert not prove(same, other, file="file").passed


def test_a_near_tie_agrees_and_a_clear_error_does_not() -> None:
    model, _ = small("abn-cifar_resnet8")
    classifier: Any = model.perception_branch.classifier
    with torch.no_grad():
        classifier.weight[1] = classifier.weight[0]
        classifier.bias[:2] = torch.tensor([5, 5 - 1e-5])
    near, clear = torch.tensor([0, 2e-5, 0]), torch.tensor([0, 0, 20])
    tied = prove(runner(model, lambda out: (out[0] + near, out[1])), model, file="file")
    assert tied.agreement == {"photographs": 1, "noise": 1}
    worse = prove(runner(model, lambda out: (out[0] + clear, out[1])), model, file="file")
    assert worse.agreement == {"photographs": 0, "noise": 0}


def test_lower_precision_has_more_tolerance() -> None:
    model, _ = small("abn-cifar_resnet8")

    def change(out: Any) -> Any:
        return out[0], out[1] + 0.005

    assert not prove(runner(model, change), model, file="file").passed
    assert prove(runner(model, change, "fp16"), model, file="file").passed


def test_a_failed_proof_of_an_untrained_network_says_so() -> None:
    torch.manual_seed(0)
    fresh = create_model("abn_cifar_resnet8", num_classes=3, width=4)
    settled, _ = small("abn-cifar_resnet8")

    def noisy(out: Any) -> Any:
        return out[0], out[1] + 0.5

    for model, precision, told in ((fresh, "fp16", True), (fresh, "fp32", False), (settled, "fp16", False)):
        with pytest.raises(ProofFailedError) as caught:
            prove(runner(model, noisy, precision), model, file="file").check()
        assert ("the network is untrained" in str(caught.value)) is told
        assert ("the network is untrained" in caught.value.proof.table()) is told


def test_a_map_that_fails_in_8_bits_is_to_be_kept_in_float32() -> None:
    model, _ = small("abn-cifar_resnet8")
    with pytest.raises(ProofFailedError, match="--keep-float map"):
        prove(runner(model, lambda out: (out[0], out[1] + 0.5), "int8"), model, file="file").check()
    passed = prove(runner(model, lambda out: out, "int8"), model, file="file").check()
    assert "--keep-float" not in passed.table()


def test_a_second_size_is_compared_where_sizes_vary() -> None:
    model, _ = small("abn-cifar_resnet8")
    size = SizeRange((12, 12), (20, 20), (40, 40))
    proof = prove(runner(model, lambda out: out, size=size), model, file="file")
    assert {row.size for row in proof.comparisons} == {"20x20", "12x20"}


def test_photographs_of_a_folder_are_preprocessed(tmp_path: Path) -> None:
    for value in (0, 255):
        Image.fromarray(np.full((30, 40, 3), value, np.uint8)).save(tmp_path / f"{value}.png")
    images = ProofImages(Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3), tmp_path)
    photographs = images.photographs(3, (10, 12))
    assert photographs.shape == (3, 3, 10, 12)
    assert photographs[:, 0, 0, 0].tolist() == [-1, 1, -1]
    (tmp_path / "255.png").write_bytes(b"no image")
    with pytest.raises(AbnFastError, match=r"255.png' is corrupt"):
        images.photographs(2, (10, 12))


def test_without_photographs_the_proof_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abn_fast.export.proof.images._sample_pictures", list)
    model, _ = small("abn-cifar_resnet8")
    proof = prove(runner(model, lambda out: out), model, file="file")
    assert {row.images for row in proof.comparisons} == {"noise"}
    assert any("noise alone" in note for note in proof.notes)


def test_a_file_is_verified_against_its_checkpoint(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    path.write_bytes(exported.file.read_bytes())
    proof = verify(path, exported.checkpoint)
    assert proof.passed
    assert json.loads((tmp_path / "copy.onnx.proof.json").read_text())["passed"] is True
    assert proof.largest().keys() == {"logits", "attention"}


def test_a_file_of_other_weights_fails_against_the_checkpoint(exported: Exported, tmp_path: Path) -> None:
    other = copy.deepcopy(exported.model)
    weights: Any = other.perception_branch.classifier
    torch.nn.init.normal_(weights.weight)
    save_checkpoint(other, tmp_path / "other.safetensors", preprocessing=PREPROCESSING, classes=CLASSES)
    path = tmp_path / "copy.onnx"
    path.write_bytes(exported.file.read_bytes())
    assert not verify(path, tmp_path / "other.safetensors").passed
    assert json.loads((tmp_path / "copy.onnx.proof.json").read_text())["passed"] is False


def test_a_checkpoint_of_another_model_is_told_apart(exported: Exported, tmp_path: Path) -> None:
    model, _ = small("abn-densenet_bc10_4")
    save_checkpoint(model, tmp_path / "dense.safetensors")
    with pytest.raises(AbnFastError, match=r"was exported from abn_cifar_resnet8, but .* holds abn_densenet_bc10_4"):
        verify(exported.file, tmp_path / "dense.safetensors")
    save_checkpoint(exported.model, tmp_path / "renamed.safetensors", classes=["x", "y", "z"])
    with pytest.raises(AbnFastError, match=r"has the classes cat, dog, owl, but .* x, y, z"):
        verify(exported.file, tmp_path / "renamed.safetensors")
    with pytest.raises(AbnFastError, match="is a checkpoint itself"):
        verify(exported.checkpoint, exported.checkpoint)


def test_metadata_survive_json() -> None:
    model, _ = small("tasks-resnet")
    metadata = describe(
        model,
        outputs=("logits",),
        precision="fp16",
        batch=BatchRange.parse("1:8:64"),
        size=SizeRange.parse("128x96:224:512x300"),
        preprocessing=PREPROCESSING,
        classes=CLASSES,
    )
    assert Metadata.from_json(metadata.to_json()) == metadata
    for text, message in ((None, "no file of abn_fast's"), ("{", "damaged"), ('{"format": 9}', "format 9")):
        with pytest.raises(AbnFastError, match=message):
            Metadata.from_json(text)


@pytest.mark.parametrize("text", ["", "0", "8:4:2", "1:2", "a", "1:2:3:4", "-1"])
def test_a_bad_batch_is_refused(text: str) -> None:
    with pytest.raises(AbnFastError, match="batch"):
        BatchRange.parse(text)


@pytest.mark.parametrize("text", ["", "0", "224:128:512", "1:2", "axb", "1x2x3", "4x"])
def test_a_bad_size_is_refused(text: str) -> None:
    with pytest.raises(AbnFastError, match="size"):
        SizeRange.parse(text)


def test_ranges_read_what_they_print() -> None:
    for text in ("8", "1:8:64"):
        assert str(BatchRange.parse(text)) == text
    assert SizeRange.parse("224") == SizeRange.fixed((224, 224))
    assert SizeRange.parse("128:224x160:512") == SizeRange((128, 128), (224, 160), (512, 512))
