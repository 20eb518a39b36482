"""int8 files of networks with a channel that is hardly ever active, and of outputs beyond the calibrated ones."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from abn_fast.export import BatchRange, InferenceSession, Proof, SizeRange
from abn_fast.export.describe import describe
from abn_fast.export.onnx.program import write_program
from abn_fast.export.proof import prove
from abn_fast.export.proof.prove import proof_images
from abn_fast.export.quantize import CalibrationImages, quantize_onnx
from abn_fast.export.quantize.balance import balance_class_conv
from abn_fast.export.served import served_network
from abn_fast.modules import AttentionBranchNetwork
from tests.export._trained import CLASSES, SEEN, save_pictures, trained

BATCH, SIZE = BatchRange(1, 4, 8), SizeRange.fixed(SEEN.image_size)
DEAD = 5


def with_a_dead_channel() -> AttentionBranchNetwork:
    """The trained network, one channel of whose attention stage is 0 after its ReLU, with the statistics of that."""
    model = copy.deepcopy(trained())
    *_, last = (each for each in model.attention_branch.stage.modules() if isinstance(each, nn.BatchNorm2d))
    norm = model.attention_branch.head.bn1
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        last.bias[DEAD] = -20
        norm.running_mean[DEAD] = norm.running_var[DEAD] = 0
    return model


def write(model: AttentionBranchNetwork, path: Path) -> Path:
    network = served_network(model)
    metadata = describe(
        model, outputs=network.outputs, precision="fp32", batch=BATCH, size=SIZE, preprocessing=SEEN, classes=CLASSES
    )
    write_program(network, metadata, path)
    return path


class Small:
    """int8 files of a network, and their proofs on photographs that they were not calibrated on."""

    def __init__(self, model: AttentionBranchNetwork, folder: Path) -> None:
        self.model, self.file = model, folder / "small.onnx"
        self._whole = write(model, folder / "whole.onnx")
        self._calibration = save_pictures(folder / "calibration", range(200, 216))
        self._others = save_pictures(folder / "others", range(300, 332))
        self.quantize()

    def quantize(self) -> None:
        images = CalibrationImages(self._calibration, SEEN, SEEN.image_size)
        quantize_onnx(self._whole, self.file, images.batches(BATCH))

    def proof(self, file: Path | None = None) -> Proof:
        runner = InferenceSession(file or self.file)._runner
        return prove(runner, self.model, file="file", images=proof_images(runner.metadata, self._others))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(trained(), tmp_path_factory.mktemp("small"))


@pytest.fixture
def dead(tmp_path: Path) -> Small:
    return Small(with_a_dead_channel(), tmp_path)


def test_a_balanced_network_is_the_same_network(tmp_path: Path) -> None:
    whole = onnx.load(write(with_a_dead_channel(), tmp_path / "whole.onnx"))
    balanced = copy.deepcopy(whole)
    assert balance_class_conv(balanced) == 1
    onnx.checker.check_model(balanced, full_check=True)
    images = torch.randn(3, 3, *SEEN.image_size, generator=torch.Generator().manual_seed(0)).numpy()
    one, other = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"images": images}
        )
        for each in (whole, balanced)
    )
    for before, after in zip(one, other, strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_balanced_weights_are_of_one_magnitude(tmp_path: Path) -> None:
    model = onnx.load(write(with_a_dead_channel(), tmp_path / "whole.onnx"))

    def largest() -> Any:
        (weight,) = (each for each in model.graph.initializer if each.name.endswith("class_conv.weight"))
        return np.abs(onnx.numpy_helper.to_array(weight)).max((0, 2, 3))

    before = largest()
    assert before[DEAD] > 20 * np.median(before)
    balance_class_conv(model)
    assert largest().max() < 1.01 * np.median(before)
    assert balance_class_conv(model) == 0


def test_layers_that_stay_float32_or_have_no_such_channel_are_left_alone(tmp_path: Path) -> None:
    ordinary = onnx.load(write(trained(), tmp_path / "ordinary.onnx"))
    assert balance_class_conv(ordinary) == 0
    assert ordinary == onnx.load(tmp_path / "ordinary.onnx")
    model = onnx.load(write(with_a_dead_channel(), tmp_path / "whole.onnx"))
    names = [node.name for node in model.graph.node]
    assert balance_class_conv(model, kept=names) == 0


def test_a_dead_channel_does_not_cost_the_map(dead: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the balance its weights take the 8 bits of all others."""
    proof = dead.proof()
    assert proof.passed, proof.table()
    monkeypatch.setattr("abn_fast.export.quantize.quantize.balance_class_conv", lambda *arguments: 0)
    dead.quantize()
    worse = dead.proof()
    assert not worse.passed
    assert worse.map_drift["photographs"] > 3 * proof.map_drift["photographs"]


def test_outputs_are_not_rounded_to_8_bits(small: Small) -> None:
    images = torch.randn(128, 3, *SEEN.image_size, generator=torch.Generator().manual_seed(0))
    computed = InferenceSession(small.file, outputs=["logits", "attention"])(images)
    assert len(computed.logits.unique()) > 256
    graph = onnx.load(small.file).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert [makers[each.name] for each in graph.output] == ["Gemm", "Sigmoid"]


@pytest.mark.parametrize(
    "layer",
    ["extractor.conv1", "attention_head.class_conv", "attention_head.map_conv", "perception_branch.classifier"],
)
def test_a_wrong_scale_of_one_layer_fails(small: Small, layer: str, tmp_path: Path) -> None:
    assert small.proof().passed
    model = onnx.load(small.file)
    (scale,) = (each for each in model.graph.initializer if each.name.endswith(f"{layer}.weight_scale"))
    scale.CopyFrom(onnx.numpy_helper.from_array(3 * onnx.numpy_helper.to_array(scale), scale.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    assert not small.proof(tmp_path / "wrong.onnx").passed
