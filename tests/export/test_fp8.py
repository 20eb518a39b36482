"""fp8 ONNX files for engines: what is in them, how the network fares, where they are built for, and for whom not."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError, save_checkpoint
from abn_fast.checkpoints import read_checkpoint
from abn_fast.export import BatchRange, InferenceSession, SizeRange, export_onnx, export_tensorrt, verify
from abn_fast.export.describe import describe
from abn_fast.export.formats import ExportRequest, export_checkpoint
from abn_fast.export.onnx.program import write_program
from abn_fast.export.quantize import CalibrationImages, Quantization, quantize_onnx
from abn_fast.export.served import served_network
from abn_fast.export.tensorrt import Sidecar, flavour
from abn_fast.export.tensorrt.flavour import CLASSIC
from tests.export._trained import CLASSES, SEEN, picture, save_pictures, trained

SIZE, BATCH = SizeRange.around(SEEN.image_size), BatchRange(1, 4, 8)
FP8, FLOAT = onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT


class Files(NamedTuple):
    """The trained network in float32 and fp8, and folders of pictures."""

    whole: Path
    fp8: Path
    calibration: Path
    others: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("fp8")
    model = trained()
    network = served_network(model)
    metadata = describe(
        model, outputs=network.outputs, precision="fp32", batch=BATCH, size=SIZE, preprocessing=SEEN, classes=CLASSES
    )
    whole, fp8 = folder / "whole.onnx", folder / "fp8.onnx"
    write_program(network, metadata, whole)
    calibration = save_pictures(folder / "calibration", range(200, 232))
    images = CalibrationImages(calibration, SEEN, SEEN.image_size)
    assert quantize_onnx(whole, fp8, images.batches(BATCH), precision="fp8", kind="tensorrt").precision == "fp8"
    return Files(whole, fp8, calibration, save_pictures(folder / "others", range(300, 348)))


def arrays(path: Path) -> dict[str, Any]:
    return {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def unseen() -> torch.Tensor:
    return torch.stack([SEEN(Image.fromarray(picture(index))) for index in range(400, 460)])


def test_products_read_e4m3_on_both_sides_and_nothing_stays_int8(files: Files) -> None:
    graph = onnx.load(files.fp8).graph
    types = {each.name: each.data_type for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(products) == 15
    for node in products:
        for name in node.input[:2]:
            assert makers[name].op_type == "DequantizeLinear"
            assert types[makers[name].input[2]] == FP8
        assert types[node.input[2]] == FLOAT
    assert set(types.values()) <= {FP8, FLOAT, onnx.TensorProto.INT64}
    assert files.fp8.stat().st_size < 0.6 * files.whole.stat().st_size


def test_weights_are_rounded_from_float32_with_a_scale_for_each_output_channel(files: Files) -> None:
    whole, ours = arrays(files.whole), arrays(files.fp8)
    names = [name for name in whole if f"{name}_quantized" in ours]
    assert len(names) == 15
    for name in names:
        scales = ours[f"{name}_scale"]
        sides = tuple(range(1, whole[name].ndim))
        np.testing.assert_allclose(scales, np.abs(whole[name]).max(sides) / 448, rtol=1e-5)
        restored = ours[f"{name}_quantized"].astype(np.float32) * scales.reshape(-1, *[1] * len(sides))
        # 3 bits after the point: half a step is 1/16 of a value, or of the least normal number, 2 ** -6
        least = scales.reshape(-1, *[1] * len(sides)) * 2.0**-6
        assert np.all(np.abs(restored - whole[name]) <= np.maximum(np.abs(whole[name]), least) / 16 * 1.001)


def test_activations_reach_the_largest_value_of_their_calibration(files: Files) -> None:
    images = CalibrationImages(files.calibration, SEEN, SEEN.image_size).images[0]
    scale = arrays(files.fp8)["images_scale"]
    assert scale == pytest.approx(images.abs().max().item() / 448, rel=0.02)


def test_onnxruntime_computes_what_the_standard_says(files: Files) -> None:
    images = unseen()[:4]
    ours = InferenceSession(files.fp8)(images)
    logits, attention = onnx.reference.ReferenceEvaluator(str(files.fp8)).run(
        ["logits", "attention"], {"images": images.numpy()}
    )
    # a sum on the border of two roundings goes either way
    assert (ours.attention - torch.from_numpy(attention)).abs().mean() < 5e-3
    assert (ours.logits - torch.from_numpy(logits)).abs().mean() < 0.02 * np.abs(logits).max()


def test_classes_and_maps_survive(files: Files) -> None:
    with torch.inference_mode():
        expected = trained()(unseen())
    ours = InferenceSession(files.fp8)(unseen())
    assert (ours.logits.argmax(1) == expected.logits.argmax(1)).double().mean() >= 0.98
    assert 1e-4 < (ours.attention - expected.attention).abs().mean() < 0.03


def test_a_file_for_engines_is_calibrated_and_proved_and_parts_stay_float(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    quantization = Quantization(files.calibration, "tensorrt", ("map",))
    proof = export_onnx(
        trained(), path, size=SIZE, batch=BATCH, precision="fp8", preprocessing=SEEN, images=files.others,
        quantization=quantization,
    )  # fmt: skip
    assert proof.passed
    assert proof.agreement["photographs"] >= 0.98
    assert 0 < proof.map_drift["photographs"] < 0.03
    assert any(
        "fp8 for tensorrt, calibrated on 32 images at 24x28 and 12x28; the convolutions from" in note
        for note in proof.notes
    )
    assert sum(name.endswith("_quantized") for name in arrays(path)) == 13


def test_an_engine_is_built_for_cards_that_have_fp8(files: Files, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs tensorrt-rtx")
    given: dict[str, Any] = {
        "size": SizeRange.fixed(SEEN.image_size),
        "batch": BATCH,
        "precision": "fp8",
        "preprocessing": SEEN,
        "images": files.others,
        "quantization": Quantization(files.calibration, "tensorrt"),
    }
    path = tmp_path / "model.engine"
    with pytest.raises(AbnFastError, match="sm_86 has no fp8: take --precision fp16, or leave sm_86 out"):
        export_tensorrt(trained(), path, targets=["sm_86", "sm_89"], **given)
    assert not list(tmp_path.iterdir())
    proof = export_tensorrt(trained(), path, **given)
    assert proof.passed
    assert Sidecar.read(path).targets == ("sm_89", "sm_120", "sm_121")
    assert Sidecar.read(path).build["layers"]["QUANTIZE"] > 10
    assert "not run" in proof.notes[0]
    save_checkpoint(trained(), tmp_path / "model.safetensors", preprocessing=SEEN)
    assert verify(path, tmp_path / "model.safetensors", images=files.others).passed


def test_classic_tensorrt_is_asked_for_a_card_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour, "local_targets", lambda: ["sm_86"])
    with pytest.raises(AbnFastError, match="sm_86, the card here, has no fp8: take --precision fp16"):
        CLASSIC.checked_targets(None, "fp8")
    assert CLASSIC.checked_targets(None, "bf16") == ()


FOR_GPUS = "precision='fp8' is of GPUs from sm_89 on: take int8 for CPUs, --format tensorrt"


@pytest.mark.parametrize(("format_name", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
@pytest.mark.parametrize("calibrated", [False, True])
def test_cpus_take_int8(files: Files, format_name: str, suffix: str, calibrated: bool, tmp_path: Path) -> None:
    save_checkpoint(trained(), tmp_path / "model.safetensors", preprocessing=SEEN)
    quantization = Quantization(files.calibration) if calibrated else None
    request = ExportRequest(SIZE, BATCH, "fp8", quantization=quantization)
    with pytest.raises(AbnFastError, match=FOR_GPUS) as error:
        export_checkpoint(
            read_checkpoint(tmp_path / "model.safetensors"), tmp_path / f"model{suffix}", format_name, request
        )
    assert "\n" not in str(error.value)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_engine_without_calibration_asks_for_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs tensorrt-rtx")
    with pytest.raises(AbnFastError, match="precision='fp8' is calibrated on images: give a folder"):
        export_tensorrt(trained(), tmp_path / "model.engine", size=SIZE, precision="fp8")
