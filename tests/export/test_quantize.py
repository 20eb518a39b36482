"""int8 ONNX files: which products are in 8 bits, how the network fares, and what is refused before work is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError
from abn_fast.export import BatchRange, InferenceSession, Metadata, SizeRange, export_onnx
from abn_fast.export.describe import describe
from abn_fast.export.metadata import KEY
from abn_fast.export.onnx.program import write_program
from abn_fast.export.proof import Comparison, Proof, prove
from abn_fast.export.quantize import CalibrationImages, Quantization, make_quantization, quantize_onnx
from abn_fast.export.served import served_network
from tests.export._networks import small
from tests.export._trained import CLASSES, SEEN, picture, save_pictures, trained

SIZE, BATCH = SizeRange.around(SEEN.image_size), BatchRange(1, 4, 8)
INT8, UINT8 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8


class Files(NamedTuple):
    """A float32 file of the trained network, and folders of pictures."""

    whole: Path
    calibration: Path
    others: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("quantize")
    model = trained()
    network = served_network(model)
    metadata = describe(
        model, outputs=network.outputs, precision="fp32", batch=BATCH, size=SIZE, preprocessing=SEEN, classes=CLASSES
    )
    write_program(network, metadata, folder / "whole.onnx")
    calibration = save_pictures(folder / "calibration", range(200, 232))
    return Files(folder / "whole.onnx", calibration, save_pictures(folder / "others", range(300, 348)))


def quantized(files: Files, target: Path, **options: Any) -> Metadata:
    images = CalibrationImages(files.calibration, SEEN, SEEN.image_size)
    return quantize_onnx(files.whole, target, images.batches(BATCH), **options)


def weights_in_8_bits(path: Path) -> set[str]:
    """Names of the layers whose weights are stored in 8 bits."""
    return {
        each.name.removeprefix("network.branches.").rsplit(".weight", 1)[0]
        for each in onnx.load(path).graph.initializer
        if each.data_type == INT8 and ".weight" in each.name and "zero_point" not in each.name
    }


def activation_types(path: Path) -> set[int]:
    """Types that activations are rounded to."""
    graph = onnx.load(path).graph
    types = {each.name: each.data_type for each in graph.initializer}
    return {types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}


def zero_points(path: Path) -> set[int]:
    graph = onnx.load(path).graph
    points = [each for each in graph.initializer if each.name.endswith("zero_point")]
    return {int(value) for each in points for value in onnx.numpy_helper.to_array(each).flatten()}


@pytest.mark.parametrize("kind", ["cpu", "tensorrt"])
def test_classes_and_maps_survive(files: Files, kind: Any, tmp_path: Path) -> None:
    metadata = quantized(files, tmp_path / "small.onnx", kind=kind)
    assert metadata.precision == "int8"
    assert len(weights_in_8_bits(tmp_path / "small.onnx")) == 15
    images = torch.stack([SEEN(Image.fromarray(picture(index))) for index in range(400, 460)])
    with torch.inference_mode():
        expected = trained()(images)
    ours = InferenceSession(tmp_path / "small.onnx", outputs=["logits", "attention"])(images)
    assert (ours.logits.argmax(1) == expected.logits.argmax(1)).double().mean() >= 0.98
    assert (ours.attention - expected.attention).abs().mean() < 0.03
    assert (ours.attention - expected.attention).abs().max() > 1e-4


def test_the_kinds_differ_in_signs_zero_points_and_biases(files: Files, tmp_path: Path) -> None:
    quantized(files, tmp_path / "cpu.onnx", kind="cpu")
    quantized(files, tmp_path / "tensorrt.onnx", kind="tensorrt")
    assert activation_types(tmp_path / "cpu.onnx") == {UINT8}
    assert activation_types(tmp_path / "tensorrt.onnx") == {INT8}
    assert zero_points(tmp_path / "tensorrt.onnx") == {0}
    assert zero_points(tmp_path / "cpu.onnx") - {0}
    for name, types in (("cpu", {onnx.TensorProto.INT32}), ("tensorrt", {onnx.TensorProto.FLOAT})):
        graph = onnx.load(tmp_path / f"{name}.onnx").graph
        biases = [
            each for each in graph.initializer if ".bias" in each.name and not each.name.endswith(("scale", "point"))
        ]
        assert {each.data_type for each in biases} == types


def test_weights_have_one_scale_an_output_channel(files: Files, tmp_path: Path) -> None:
    quantized(files, tmp_path / "small.onnx")
    whole = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(files.whole).graph.initializer}
    ours = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "small.onnx").graph.initializer
    }
    (name,) = (name for name in whole if name.endswith("class_conv.weight"))
    scales = ours[f"{name}_scale"]
    np.testing.assert_allclose(scales, np.abs(whole[name]).max((1, 2, 3)) / 127, rtol=0.01)
    restored = ours[f"{name}_quantized"].astype(np.float32) * scales[:, None, None, None]
    assert np.all(np.abs(restored - whole[name]) <= 0.51 * scales[:, None, None, None])


@pytest.mark.parametrize(
    ("part", "layers"),
    [
        ("first", {"extractor.conv1"}),
        ("last", {"perception_branch.classifier"}),
        ("map", {"attention_head.class_conv", "attention_head.map_conv"}),
    ],
)
def test_parts_stay_float_when_asked(files: Files, part: str, layers: set[str], tmp_path: Path) -> None:
    quantized(files, tmp_path / "all.onnx")
    quantized(files, tmp_path / "kept.onnx", keep_float=[part])
    assert weights_in_8_bits(tmp_path / "all.onnx") - weights_in_8_bits(tmp_path / "kept.onnx") == layers


def test_the_file_is_ours_and_runs_at_any_batch_and_size(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    returned = quantized(files, path)
    properties = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert Metadata.from_json(properties[KEY]) == returned
    assert returned.versions["onnxruntime"] == onnxruntime.__version__
    assert not [name for name in properties if "onnx.quant" in name or "infer" in name]
    assert properties["precision"] == "int8"
    assert path.stat().st_size < 0.6 * files.whole.stat().st_size
    session = InferenceSession(path)
    assert session.metadata.classes == tuple(CLASSES)
    for shape in ((1, 3, 24, 28), (5, 3, 33, 40)):
        assert session(torch.randn(shape)).logits.shape == (shape[0], 3)


def test_ranges_come_from_the_calibration_images(files: Files, tmp_path: Path) -> None:
    """What is far out of the calibrated range saturates."""
    dark = iter([torch.full((1, 3, 24, 28), -1.0) + 0.01 * torch.randn(1, 3, 24, 28)])
    quantize_onnx(files.whole, tmp_path / "dark.onnx", dark)
    quantized(files, tmp_path / "good.onnx")
    model = trained()
    images = torch.stack([SEEN(Image.fromarray(picture(index))) for index in range(400, 430)])
    with torch.inference_mode():
        expected = model(images).logits.argmax(1)
    errors = [
        (InferenceSession(tmp_path / name)(images).logits.argmax(1) != expected).sum()
        for name in ("dark.onnx", "good.onnx")
    ]
    assert errors[0] > errors[1]


def test_an_export_is_calibrated_and_proved_on_different_photographs(files: Files, tmp_path: Path) -> None:
    quantization = Quantization(files.calibration, keep_float=("last", "map"))
    proof = export_onnx(
        trained(), tmp_path / "model.onnx", size=SIZE, batch=BATCH, precision="int8", preprocessing=SEEN,
        images=files.others, quantization=quantization,
    )  # fmt: skip
    assert proof.passed
    assert proof.precision == "int8"
    assert proof.agreement["photographs"] >= 0.98
    assert 0 < proof.map_drift["photographs"] < 0.03
    assert any(
        "int8 for cpu, calibrated on 32 images at 24x28 and 12x28; the classifiers, the convolutions from" in x
        for x in proof.notes
    )
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.proof.json"}


def test_an_int8_file_whose_map_drifts_fails(files: Files, tmp_path: Path) -> None:
    quantized(files, tmp_path / "small.onnx")
    session = InferenceSession(tmp_path / "small.onnx")
    model = trained()
    assert prove(session._runner, model, file="file").passed

    class Drifting:
        runtime, provider, metadata = session.runtime, session.provider, session.metadata

        def run(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, attention = session._runner.run(images)
            return logits, attention * 0.92

    proof = prove(Drifting(), model, file="file")
    assert any("the map drifts by" in failure for failure in proof.failures)


def test_noise_is_reported_and_not_judged_where_there_are_photographs() -> None:
    rows = tuple(Comparison(images, 1, "24x28", "logits", 0.1, 0.1) for images in ("photographs", "noise"))

    def proof(precision: str, agreement: dict[str, float], rows: tuple[Comparison, ...] = rows) -> Proof:
        return Proof("file", "onnxruntime", "CPU", precision, rows, agreement)

    assert proof("int8", {"photographs": 1, "noise": 0.1}).passed
    assert not proof("int8", {"photographs": 0.97, "noise": 1}).passed
    assert not proof("int8", {"noise": 0.1}, rows[1:]).passed
    assert not proof("bf16", {"photographs": 1, "noise": 0.1}).passed


def test_images_of_large_folders_are_taken_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abn_fast.export.quantize.calibration.MOST", 4)
    images = CalibrationImages(save_pictures(tmp_path / "many", range(10)), SEEN, (24, 28))
    assert [path.name for path in images.paths] == ["0000.png", "0002.png", "0005.png", "0007.png"]


def test_every_image_is_seen_at_every_size_by_itself(files: Files) -> None:
    sizes = ((24, 28), (12, 28))
    images = CalibrationImages(files.calibration, SEEN, *sizes)
    batches = list(images.batches(BATCH))
    assert [tuple(each.shape) for each in batches] == [(8, 3, *size) for size in sizes for _ in range(4)]
    with Image.open(images.paths[9]) as picture:
        for size, batch in zip(sizes, batches[1::4], strict=True):
            torch.testing.assert_close(batch[1], replace(SEEN, image_size=size)(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("batch", "counts"),
    [("1:4:8", [8, 2]), ("4", [4, 4, 4]), ("1:1:3", [3, 3, 3, 1]), ("16", [16]), ("3:3:64", [8, 3])],
)
def test_batches_are_what_the_network_takes(batch: str, counts: list[int], tmp_path: Path) -> None:
    images = CalibrationImages(save_pictures(tmp_path / "ten", range(10)), SEEN, (24, 28))
    batches = list(images.batches(BatchRange.parse(batch)))
    assert [len(each) for each in batches] == counts
    torch.testing.assert_close(torch.cat(batches)[:10], images.images[0])


def test_unreadable_images_are_named_before_anything_is_traced(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_pictures(tmp_path / "pictures", range(3))
    (folder / "0001.png").write_bytes(b"no picture")
    (folder / "a.jpg").write_bytes((folder / "0000.png").read_bytes()[:100])

    def never(*arguments: Any) -> None:
        raise AssertionError("the network was traced")

    monkeypatch.setattr("abn_fast.export.quantize.program.write_program", never)
    with pytest.raises(AbnFastError, match=r"2 of 4 images cannot be read: 0001.png, a.jpg; repair") as error:
        export_onnx(
            trained(), tmp_path / "m.onnx", size=SIZE, precision="int8", preprocessing=SEEN,
            quantization=Quantization(folder),
        )  # fmt: skip
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("abn-cifar_resnet8", {}, "is calibrated on images: give a folder of them"),
        ("abn-cifar_resnet8", {"calibration": "nowhere"}, "calibration 'nowhere': no such folder"),
        ("abn-cifar_resnet8", {"calibration": "empty"}, "the folder holds no image file"),
        ("abn-cifar_resnet8", {"calibration": "full", "precision": "fp16"}, "precision='fp16' is not calibrated"),
        ("abn-cifar_resnet8", {"calibration": "full", "gate": "function"}, "take gate='standard'"),
        ("abn-cifar_resnet8", {"calibration": "full", "images": "full"}, "2 images are both calibrated and proved on"),
        ("abn-cifar_resnet8", {"calibration": "full", "images": "."}, "2 images are both calibrated and proved on"),
        ("abn-cifar_resnet8", {"calibration": "full", "kind": "gpu"}, "quantize_for='gpu'; expected one of 'cpu'"),
        ("abn-cifar_resnet8", {"calibration": "full", "keep": "head"}, "keep_float='head'; expected one of 'first'"),
        ("plain-cifar_resnet8", {"calibration": "full", "keep": "map"}, "keep_float='map', but the file has no such"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_writes_nothing(
    kind: str, arguments: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    save_pictures(tmp_path / "full", range(2))
    model, _ = small(kind)
    folder = arguments.get("calibration")
    keep = (arguments["keep"],) if "keep" in arguments else ()

    def export() -> None:
        export_onnx(
            model,
            "model.onnx",
            size=SIZE,
            precision=arguments.get("precision", "int8"),
            gate=arguments.get("gate", "standard"),
            images=arguments.get("images"),
            quantization=None if folder is None else Quantization(Path(folder), arguments.get("kind", "cpu"), keep),  # type: ignore[arg-type]  # one is no kind
        )

    with pytest.raises(AbnFastError, match=message) as error:
        export()
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


def test_only_float32_files_of_ours_are_quantized(files: Files, tmp_path: Path) -> None:
    quantized(files, tmp_path / "small.onnx")
    with pytest.raises(AbnFastError, match=r"small.onnx is int8: int8 is made from fp32"):
        quantize_onnx(tmp_path / "small.onnx", tmp_path / "again.onnx", iter([torch.zeros(1, 3, 24, 28)]))
    foreign = onnx.load(files.whole)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(AbnFastError, match="no file of abn_fast's"):
        quantize_onnx(tmp_path / "foreign.onnx", tmp_path / "again.onnx", iter([torch.zeros(1, 3, 24, 28)]))
    with pytest.raises(AbnFastError, match=r"whole.onnx cannot be made int8"):
        quantize_onnx(files.whole, tmp_path / "again.onnx", iter([torch.zeros(1, 4, 24, 28)]))
    assert not (tmp_path / "again.onnx").exists()


def test_the_kind_follows_the_format(tmp_path: Path) -> None:
    for format_name, kind in (
        ("onnx", "cpu"),
        ("openvino", "cpu"),
        ("tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt"),
    ):
        made = make_quantization(tmp_path, None, (), format_name)
        assert made is not None
        assert made.kind == kind
    assert make_quantization(tmp_path, "tensorrt", ("map",), "onnx") == Quantization(tmp_path, "tensorrt", ("map",))
    assert make_quantization(None, None, (), "onnx") is None
    with pytest.raises(AbnFastError, match="keep_float='map' is of int8: give a folder"):
        make_quantization(None, None, ("map",), "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["abn-densenet_bc10_4", "abn-se_resnet-basic", "tasks-resnet", "tasks-densenet"])
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_other_families_become_int8_and_run(kind: str, target: Any, tmp_path: Path) -> None:
    model, images = small(kind)
    network = served_network(model)
    size = SizeRange.around((images.shape[2], images.shape[3]))
    metadata = describe(model, outputs=network.outputs, precision="fp32", batch=BATCH, size=size)
    write_program(network, metadata, tmp_path / "whole.onnx")
    for kept in ((), ("first", "last", "map")):
        quantize_onnx(tmp_path / "whole.onnx", tmp_path / "small.onnx", iter([images]), kind=target, keep_float=kept)
        ours = InferenceSession(tmp_path / "small.onnx")(images)
        expected = InferenceSession(tmp_path / "whole.onnx")(images)
        assert (ours.attention - expected.attention).abs().mean() < 0.1 * expected.attention.abs().max()
